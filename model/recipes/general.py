"""Recipes for datasets of any kind: the default, the demo, and single-label images."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import product

from model.inputs.augmentation import AugmentationConfig
from model.training.config import AdamW, Sgd, StepSchedule, TrainConfig
from model.training.losses import LossConfig, SoftmaxConfig

BACKBONE = "tf_efficientnet_lite0"


def default() -> TrainConfig:
    """CHR on EfficientNet-lite0 with ImageNet weights at 224 px, told by boxes where to look.

    `sixray train --data DATASET --output RUN_DIR`: needs neither a GPU nor a network, as the extra `model` brings the
    weights. For small and medium datasets.
    """
    return TrainConfig(
        recipe="default",
        backbone=BACKBONE,
        complete_levels=True,
        pretrained=True,
        batch_size=16,
        max_epochs=4,
        learning_rate=5e-4,
        optimizer=AdamW(),
        localization=0.5,
        augmentation=AugmentationConfig(scale=0.3, aspect=0.3),
    )


def demo() -> TrainConfig:
    """As `default`, at 160 px, for some 1,400 generated scans in two minutes on 2 CPU cores.

    Its positives are a hundred, so they come several times an epoch.
    """
    return replace(
        default(),
        recipe="demo",
        image_size_px=160,
        resize_px=176,
        max_epochs=3,
        loss=LossConfig(threshold=0.01),
        augmentation=AugmentationConfig(),
        positive_repeats=5,
    )


def ilsvrc2012(network: str, backbone: str) -> TrainConfig:
    """Return a system of Section 5.5 of the CHR paper, images of one class: `<network>_<backbone>_ilsvrc2012`.

    The paper's top-1 errors: 27.88 (plain) and 27.01 (CHR) on ResNet-18, 22.85 and 22.00 on ResNet-50. From the paper:
    an unweighted loss, and else the standard of the ResNet paper: random weights, SGD 0.1 with momentum 0.9 and weight
    decay 1e-4, 256 images a step, a tenth of the rate at 30 and 60 of 90 epochs. Unlike it, images are squashed to 256
    px and cropped like scans, without random scale and colour, and scored squashed, without a centre crop; so the
    errors do not compare with the paper's.

    Args:
        network: `plain` or `chr`.
        backbone: a timm name.
    """
    return TrainConfig(
        recipe=f"{network}_{backbone}_ilsvrc2012",
        network=network,
        backbone=backbone,
        num_levels=1 if network == "plain" else 3,
        batch_size=256,
        max_epochs=90,
        learning_rate=0.1,
        optimizer=Sgd(momentum=0.9, weight_decay=1e-4),
        schedule=StepSchedule(drops=(1 / 3, 2 / 3)),
        loss=SoftmaxConfig(),
        validation_fraction=0.01,
    )


def name_variants(
    recipe: Callable[..., TrainConfig], *choices: Iterable[str | int]
) -> dict[str, Callable[[], TrainConfig]]:
    """Return name -> recipe of every combination of a recipe's arguments."""
    return {recipe(*chosen).recipe: partial(recipe, *chosen) for chosen in product(*choices)}
