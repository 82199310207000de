"""Which runs are known by name? A recipe is a function that returns a whole training config."""

from collections.abc import Callable
from functools import partial
from itertools import product

from model.losses import LossConfig
from model.train_config import AdamW, StepSchedule, TrainConfig

BACKBONES = ("resnet34", "resnet50", "resnet101", "inception_v3", "densenet121")
"""Of Tables 2 and 3 of the CHR paper."""
SUBSETS = (10, 100, 1000)
"""SIXray10, SIXray100 and SIXray1000: negatives to a positive."""
ABLATIONS = ("plain", "h", "ch", "hr", "chr")
"""Of Table 4, on ResNet-34."""


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


def sixray(network: str, backbone: str, subset: int) -> TrainConfig:
    """Return a system of Tables 2, 3 or 4 of the CHR paper, named `<network>_<backbone>_sixray<subset>`.

    From the authors' code: squash to 256 px, random crop 224, mirror; SGD 0.01, momentum 0.9, weight decay 1e-4.
    From the paper: three levels, the class-balanced loss where the network's name has a c. Ours, since neither gives
    them: batch size, epochs, where the rate drops, the loss' threshold, bf16; and that Inception-v3 sees 299 px, as
    is its convention. Not run yet on SIXray: no figure of ours is known.

    Args:
        network: of Table 4: `plain` is the bare backbone of Table 2, `chr` the paper's system.
        backbone: a timm name.
        subset: 10, 100 or 1000. The settings are the same; each is trained on a dataset of that subset.
    """
    is_inception = backbone == "inception_v3"
    return TrainConfig(
        recipe=f"{network}_{backbone}_sixray{subset}",
        network=network,
        backbone=backbone,
        num_levels=1 if network == "plain" else 3,
        pretrained=True,
        image_size_px=299 if is_inception else 224,
        resize_px=342 if is_inception else 256,
        batch_size=64,
        max_epochs=30,
        learning_rate=0.01,
        schedule=StepSchedule(),
        loss=LossConfig(balanced=network in ("ch", "chr")),
        validation_fraction=0.05,
    )


def _named(systems: set[tuple[str, str, int]]) -> dict[str, Callable[[], TrainConfig]]:
    return {sixray(*system).recipe: partial(sixray, *system) for system in sorted(systems)}


RECIPES: dict[str, Callable[[], TrainConfig]] = (
    {"default": default, "demo": demo}
    | _named(set(product(("plain", "chr"), BACKBONES, SUBSETS)))
    | _named(set(product(ABLATIONS, ("resnet34",), SUBSETS)))
)
"""Name -> recipe. Tables 2 and 3: plain and chr on five backbones; Table 4: five networks on ResNet-34."""
