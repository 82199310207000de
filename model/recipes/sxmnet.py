"""Recipes of the SXMNet paper: every system of its Tables 2 to 8, on both datasets.

Paper: B. Hu et al., "Multi-label X-ray Imagery Classification via Bottom-up Attention and Meta Fusion", ACCV 2020.

From the paper (Section 4.2): levels 3 to 5 of ResNet-50, λ 0.1, batches of 64, SGD; stage I 350 epochs at 1e-5, a
tenth of it after every 100; stage II 150 epochs at 2e-2, the fully connected layers at 1e-1, a tenth after every 30. On
OPIXray white margins are cut off (Section 4.1). SIXray is its positive scans alone: `convert --subset positives`.

Ours: momentum 0.9 and weight decay 1e-4; squash to 256 px, random crop 224, mirror (its masks of
28 to 112 cells imply 224 px); one in twenty training scans held out to choose the epoch, the same in both stages;
stage II also trains the attention head, through the classification alone ("others" of Section 4.2 includes it);
ResNet-50 and its pyramid have the settings of stage II, so that rows of a table differ in their network alone, and
start from ImageNet. CHR was "re-train[ed] with the source codes provided by the authors" (Section 4.4), so it is that
code's graph, loss and prediction on ResNet-101, the only backbone there (`model.recipes.chr.authors`); it labels levels
for MF-N too. That graph does not support Meta Fusion: with it, CHR is the network of its paper (`chr`), trained by its
fused prediction (Eq. 4) in place of its own loss, so the rows of CHR in Table 8 differ in more than the fusion.
`chr_resnet101_<dataset>` is the network and the loss of the paper without it.

Contradictions in the paper: in Table 2 the mean of ResNet-50 on SIXray is 93.36 and that of its classes 93.11,
the mean of its own system on OPIXray 90.83 and that of its classes 90.57; CHR on OPIXray has 87.73 in Table 2 (the mean
of its classes) and 87.33 in Table 8; the pyramid with Meta Fusion 94.26 in Table 3 and 94.24 (MF-N) or 94.65 (MF-I) in
Table 8, of which Table 3's is taken for MF-N; "Tab. 3" stands for Table 4 in the text on transferability. See
`model.networks.attention_head` for where the masks begin, and `model.training.sxmnet_losses` for a rate and a figure
that do not go together.

No recipe was run on these datasets yet, so there is no figure of ours; `paper_tables.json` has the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from model.networks.config import AttentionConfig
from model.recipes.chr import authors
from model.recipes.general import name_variants
from model.training.config import Sgd, StepSchedule, TrainConfig
from model.training.losses import LossConfig
from model.training.sxmnet_losses import (
    AttentionLossConfig,
    FusedLossConfig,
    IntuitiveLabels,
    MetaLossConfig,
    NeuralLabels,
)

DATASETS = ("sixray", "opixray")
VARIANTS = {
    "": AttentionConfig(),
    "28": AttentionConfig(num_upsamples=0),
    "112": AttentionConfig(num_upsamples=2),
    "no_image": AttentionConfig(sees_image=False),
}
"""Attention heads: that of the paper's system (56 cells, seeing the image), and those of Tables 6 and 7."""
LABELS: dict[str, IntuitiveLabels | NeuralLabels] = {"mfi": IntuitiveLabels(), "mfn": NeuralLabels()}
"""Labels of levels for Meta Fusion: by intuition, and by a trained network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The recipes to train before another, by name."""

    initial: str | None = None
    """The recipe of `--initial-model`, trained on the same dataset."""
    labeller: str | None = None
    """The recipe whose predictions of the training split make `--level-labels`; trained on SIXray in any case (the
    right column of Table 4)."""


def baseline(system: str, dataset: str) -> TrainConfig:
    """Return `plain_resnet50_<dataset>`, `fpn_resnet50_<dataset>` or `chr_resnet101_<dataset>` (Tables 2, 3 and 8).

    `sixray train --data POSITIVES --output RUN_DIR --recipe fpn_resnet50_sixray`, on one GPU.
    """
    config = TrainConfig(
        recipe=f"{system}_{'resnet101' if system == 'chr' else 'resnet50'}_{dataset}",
        network=system,
        backbone="resnet101.tv_in1k" if system == "chr" else "resnet50.tv_in1k",
        num_levels=1 if system == "plain" else 3,
        trim_margins=dataset == "opixray",
        pretrained=True,
        batch_size=64,
        max_epochs=150,
        learning_rate=0.02,
        classifier_rate=5.0,
        optimizer=Sgd(momentum=0.9, weight_decay=1e-4),
        schedule=StepSchedule(drops=(30 / 150, 60 / 150, 90 / 150, 120 / 150)),
        loss=FusedLossConfig(),
        validation_fraction=0.05,
    )
    if system != "chr":
        return config
    return replace(
        config,
        batch_size=160,
        accumulate_batches=2,
        max_epochs=15,
        learning_rate=0.01,
        classifier_rate=1.0,
        schedule=StepSchedule(drops=()),
        loss=LossConfig(),
    )


def baseline_meta(system: str, labels: str, dataset: str) -> TrainConfig:
    """Return Meta Fusion as a plug-in of a baseline, `fpn_mfi_resnet50_<dataset>` and so on (Tables 3 and 8)."""
    plain = baseline(system, dataset)
    recipe = plain.recipe.replace(f"{system}_", f"{system}_{labels}_", 1)
    return replace(plain, recipe=recipe, fusion="meta", loss=MetaLossConfig(labels=LABELS[labels]))


def attention(variant: str, dataset: str) -> TrainConfig:
    """Return stage I of SXMNet, `sxmnet_attention_<dataset>` and those of Tables 6 and 7, on scans that have boxes.

    Its rating is 1 - the mean squared error of the mask on held-out scans.
    """
    return replace(
        baseline("fpn", dataset),
        recipe=_name("sxmnet", variant, "attention", dataset),
        network="sxmnet",
        attention=VARIANTS[variant],
        max_epochs=350,
        learning_rate=1e-5,
        classifier_rate=1.0,
        schedule=StepSchedule(drops=(100 / 350, 200 / 350, 300 / 350)),
        loss=AttentionLossConfig(),
    )


def sxmnet(variant: str, dataset: str) -> TrainConfig:
    """Return stage II of the paper's system, MF-N, `sxmnet_<dataset>` and those of Tables 6 and 7.

    `sixray train … --recipe sxmnet_sixray --initial-model STAGE_1/model --level-labels LEVELS.parquet`; `NEEDS` has the
    recipes of both.
    """
    return replace(
        baseline("fpn", dataset),
        recipe=_name("sxmnet", variant, dataset),
        network="sxmnet",
        attention=VARIANTS[variant],
        fusion="meta",
        loss=MetaLossConfig(labels=LABELS["mfn"]),
    )


def fused(fusion: str, dataset: str) -> TrainConfig:
    """Return stage II with other fusions: `sxmnet_average_<dataset>` (Table 3), `…_gated_…`, `…_mfi_…` (Table 4)."""
    config = replace(sxmnet("", dataset), recipe=_name("sxmnet", fusion, dataset))
    if fusion == "mfi":
        return replace(config, loss=MetaLossConfig(labels=LABELS["mfi"]))
    return replace(config, fusion=fusion, loss=FusedLossConfig())


def self_attention(dataset: str) -> TrainConfig:
    """Return the paper's system without stage I, `sxmnet_self_<dataset>` (Table 5): stage II from ImageNet weights."""
    return replace(sxmnet("", dataset), recipe=_name("sxmnet", "self", dataset))


def with_inputs(config: TrainConfig, *, initial_model: str | None, level_labels: str | None) -> TrainConfig:
    """Return a config with its inputs from other runs.

    Args:
        config: made by any recipe.
        initial_model: folder of a model to start from.
        level_labels: a table of `sixray label-levels`.

    Raises:
        ValueError: the recipe needs an input that is not given, or has no use for one that is.
    """
    needs = NEEDS.get(config.recipe, Needs())
    if needs.initial is not None and initial_model is None and config.initial_model is None:
        raise ValueError(
            f"recipe {config.recipe!r} must start from a model of {needs.initial!r}, got none; train that first and "
            f"give --initial-model RUN_DIR/model"
        )
    if needs.initial is None and initial_model is not None:
        raise ValueError(
            f"initial model must go with a recipe of SXMNet's stage II, got one with {config.recipe!r}; "
            f"leave --initial-model out, or name another --recipe"
        )
    if initial_model is not None:
        config = replace(config, initial_model=initial_model)
    if level_labels is None:
        return config
    if not (isinstance(config.loss, MetaLossConfig) and isinstance(config.loss.labels, NeuralLabels)):
        raise ValueError(f"level labels must go with a recipe of MF-N, got them with {config.recipe!r}")
    return replace(config, loss=replace(config.loss, labels=NeuralLabels(table=level_labels)))


def _name(*parts: str) -> str:
    return "_".join(part for part in parts if part)


SXMNET_RECIPES: dict[str, Callable[[], TrainConfig]] = (
    name_variants(baseline, ("plain", "fpn", "chr"), DATASETS)
    | name_variants(authors, DATASETS)
    | name_variants(baseline_meta, ("fpn", "chr"), LABELS, DATASETS)
    | name_variants(attention, VARIANTS, DATASETS)
    | name_variants(sxmnet, VARIANTS, DATASETS)
    | name_variants(fused, ("average", "gated", "mfi"), DATASETS)
    | name_variants(self_attention, DATASETS)
)
"""Name -> recipe."""


def _needs(config: TrainConfig) -> Needs:
    labelled = isinstance(config.loss, MetaLossConfig) and isinstance(config.loss.labels, NeuralLabels)
    stage_two = config.network == "sxmnet" and not isinstance(config.loss, AttentionLossConfig)
    variant = next((name for name, head in VARIANTS.items() if head == config.attention), "")
    dataset = config.recipe.rsplit("_", 1)[1]
    first = attention(variant, dataset).recipe if stage_two and "_self_" not in config.recipe else None
    return Needs(initial=first, labeller=authors("sixray").recipe if labelled else None)


NEEDS: dict[str, Needs] = {
    name: needs for name, recipe in SXMNET_RECIPES.items() if (needs := _needs(recipe())) != Needs()
}
"""By recipe, of those that need anything."""
