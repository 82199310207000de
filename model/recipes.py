"""Which runs are known by name? A recipe is a function that returns a whole training config."""

from collections.abc import Callable
from dataclasses import replace

from model.losses import LossConfig
from model.train_config import AdamW, StepSchedule, TrainConfig


def default() -> TrainConfig:
    """CHR on ResNet-18 from scratch at 224 px: needs neither a GPU nor a network.

    `sixray train --data DATASET --output RUN_DIR`; about 15 scans a second on 2 CPU cores in float32, 30 where they
    have bf16 units. For small and middle-sized datasets; with pretrained weights (`chr_resnet34_sixray10`) a network
    begins with far more than these can learn.
    """
    return TrainConfig(recipe="default", max_epochs=20, learning_rate=5e-4, optimizer=AdamW())


def demo() -> TrainConfig:
    """CHR on ResNet-18 from scratch at 128 px, for some 1,400 generated scans in one or two minutes on 2 CPU cores.

    `sixray demo`: a mean AP of several times the prevalence. From random weights and with a hundred positives there is
    no time for the paper's setting (SGD, each scan once an epoch): it had learned next to nothing after 4,000 scans.
    """
    return TrainConfig(
        recipe="demo",
        image_size_px=128,
        resize_px=144,
        batch_size=16,
        max_epochs=2,
        learning_rate=5e-4,
        optimizer=AdamW(),
        loss=LossConfig(threshold=0.01),
        positive_repeats=10,
    )


def chr_resnet34_sixray10() -> TrainConfig:
    """CHR on ResNet-34 for SIXray10, from ImageNet weights (Table 2 of the paper: mean AP 77.20).

    From the authors' code: squash to 256 px, random crop 224, mirror; SGD 0.01, momentum 0.9, weight decay 1e-4.
    From the paper: three levels, the class-balanced loss. Ours, since neither gives them: batch size, epochs, where
    the rate drops, the loss' threshold, bf16. Not run yet on SIXray10: the figure is the paper's, not ours.
    """
    return TrainConfig(
        recipe="chr_resnet34_sixray10",
        backbone="resnet34",
        pretrained=True,
        batch_size=64,
        max_epochs=30,
        learning_rate=0.01,
        schedule=StepSchedule(),
        loss=LossConfig(),
        validation_fraction=0.05,
    )


def chr_resnet50_sixray10() -> TrainConfig:
    """As `chr_resnet34_sixray10`, on ResNet-50 (the paper: mean AP 77.94)."""
    return replace(chr_resnet34_sixray10(), recipe="chr_resnet50_sixray10", backbone="resnet50")


def chr_resnet101_sixray10() -> TrainConfig:
    """As `chr_resnet34_sixray10`, on ResNet-101 (the paper: mean AP 79.37)."""
    return replace(chr_resnet34_sixray10(), recipe="chr_resnet101_sixray10", backbone="resnet101")


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    recipe.__name__: recipe
    for recipe in (default, demo, chr_resnet34_sixray10, chr_resnet50_sixray10, chr_resnet101_sixray10)
}
