"""Recipes of the CHR paper (C. Miao et al., "SIXray", CVPR 2019), Tables 2 to 4."""

from dataclasses import replace

from model.training.config import Sgd, StepSchedule, TrainConfig
from model.training.losses import AuthorsLossConfig, LossConfig, SoftmaxConfig

BACKBONES = ("resnet34", "resnet50", "resnet101", "inception_v3", "densenet121")
"""Of Tables 2 and 3 of the CHR paper."""
SUBSETS = (10, 100, 1000)
"""SIXray10, SIXray100 and SIXray1000: negatives to a positive."""
ABLATIONS = ("plain", "h", "ch", "hr", "chr")
"""Of Table 4, on ResNet-34."""
BALANCED = ("ch", "chr")
"""Those with the class-balanced loss."""


def sixray(network: str, backbone: str, subset: int) -> TrainConfig:
    """Return a system of Tables 2, 3 or 4 of the CHR paper, named `<network>_<backbone>_sixray<subset>`.

    From the authors' code (for ResNet-101 only): torchvision's ImageNet weights; squash to 256 px, random crop 224,
    mirror; SGD with momentum 0.9 and weight decay 1e-4 at 0.01 throughout, for 15 epochs; 320 scans a step, on two
    GPUs, so that a batch norm sees 160. From the paper: three levels, and the class-balanced loss for networks with a c
    in their name. Ours: the threshold of the loss (the code's drops nothing), one in twenty training scans held out to
    choose the epoch (the code uses the test list), bf16, and 299 px for Inception-v3, as is its convention.

    The rate is of the code and the reduction of the loss of the paper, and they were not made for each other: the code
    sums, over levels, the mean over classes and scans; here a level's loss is the sum over classes, and levels are
    averaged (Eq. 6, Section 4.3). So a gradient is K / L times the code's: 1.67 times for 5 classes and 3 levels, and 5
    times for `plain`, which has one level.

    `sixray train --data SIXRAY10 --output RUN_DIR --recipe chr_resnet34_sixray10`, on one GPU with 40 GB. Not run on
    SIXray yet, so there is no figure of ours; `paper_tables.json` has the paper's.

    Args:
        network: of Table 4: `plain` is the bare backbone of Table 2, `chr` the paper's system.
        backbone: one of timm's with weights of torchvision.
        subset: 10, 100 or 1000. The settings are the same; each is trained on a dataset of that subset.
    """
    is_inception = backbone == "inception_v3"
    return TrainConfig(
        recipe=f"{network}_{backbone}_sixray{subset}",
        network=network,
        backbone=f"{backbone}.tv_in1k",
        num_levels=1 if network == "plain" else 3,
        complete_levels=backbone == "densenet121",
        pretrained=True,
        image_size_px=299 if is_inception else 224,
        resize_px=342 if is_inception else 256,
        batch_size=160,
        accumulate_batches=2,
        max_epochs=15,
        learning_rate=0.01,
        optimizer=Sgd(momentum=0.9, weight_decay=1e-4),
        schedule=StepSchedule(drops=()),
        loss=LossConfig(balanced=network in BALANCED),
        validation_fraction=0.05,
    )


def authors(dataset: str = "") -> TrainConfig:
    """Return CHR as its authors' public code trains and rates it: `chr_authors_resnet101`, or `…_<dataset>`.

    From that code (MeioJane/CHR, for ResNet-101 only): the settings of `sixray`, and where the code differs from the
    paper the graph (`model.networks.chr_reference`), the loss (`AuthorsLossConfig`) and the prediction, the top level
    alone. Ours remain: one in twenty training scans held out to choose the epoch (the code uses the test list),
    classifiers that begin at the log prior of their classes and near zero (there PyTorch's random numbers), bf16, and
    up-sampling as PyTorch from 0.4 on runs the code, by the cells' centres. Peaks, of which the code has none, are
    those of the paper, over all levels.

    `sixray train --data DATASET --output RUN_DIR --recipe chr_authors_resnet101`, on one GPU with 40 GB. Not run on
    SIXray yet, so there is no figure of ours. Only for lists like SIXray's, where few labels are doubtful: whatever is
    unknown is trained as present.

    Args:
        dataset: of the SXMNet paper, which trained this code anew: "sixray" or "opixray", where white margins are cut
            off; else any.
    """
    return replace(
        sixray("chr", "resnet101", 10),
        recipe=f"chr_authors_resnet101_{dataset}".removesuffix("_"),
        network="chr_authors",
        fusion="top",
        trim_margins=dataset == "opixray",
        loss=AuthorsLossConfig(),
    )


def with_ablation(config: TrainConfig, network: str | None, num_levels: int | None) -> TrainConfig:
    """Return a multi-label config with the network, number of levels and loss of another system of Table 4.

    Args:
        config: to change.
        network: one of `ABLATIONS`, None for the config's; a c in it stands for the class-balanced loss. Another than
            the config's is added to the name of the recipe.
        num_levels: L; None: 1 for `plain`, else the config's, but 3 instead of 1 if a network is given.

    Raises:
        ValueError: a network is given, and the config's loss is not one of the CHR paper, or it has a c and the loss,
            a soft-max, has no weights.
    """
    if network is not None and not isinstance(config.loss, LossConfig | SoftmaxConfig):
        raise ValueError(
            f"network must be given for a recipe with LossConfig or SoftmaxConfig, got {network!r} for "
            f"{config.recipe!r} with {type(config.loss).__name__}; choose a recipe of the CHR paper, or leave it out"
        )
    name = network or config.network
    is_other = name != config.network
    if is_other and name in BALANCED and isinstance(config.loss, SoftmaxConfig):
        raise ValueError(
            f"network must be plain, h or hr with SoftmaxConfig, which has no class-balanced weights, got {name!r} "
            f"(recipe {config.recipe!r}); {name.removeprefix('c')!r} is the same network without them"
        )
    at_least = 1 if network is None else 3
    levels = num_levels or (1 if name == "plain" else max(config.num_levels, at_least))
    loss = config.loss
    if network is not None and isinstance(loss, LossConfig):
        loss = replace(loss, balanced=network in BALANCED)
    recipe = f"{config.recipe} --network {name}" if is_other else config.recipe
    return replace(config, recipe=recipe, network=name, num_levels=levels, loss=loss)
