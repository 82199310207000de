"""Train a network on a dataset by a recipe."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from model.hardware import Hardware, detect_hardware
from model.inputs.augmentation import AugmentationConfig
from model.networks.weights import find_package
from model.recipes.chr import ABLATIONS, with_ablation
from model.recipes.recipe_files import SUFFIX, format_recipe, load_recipe
from model.recipes.registry import RECIPES
from model.recipes.sxmnet import with_inputs
from model.training.config import TrainConfig, split_batch_across_devices
from model.training.trainer import TrainResult, train
from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag, make_config
from pipelines.steps.train_progress import ShowProgress, figure, words
from shards.curation.folds import Fold
from shards.format.dataset import open_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Changes to a recipe; None keeps what the recipe says."""

    max_epochs: int | None = None
    """Passes over the training split."""
    network: Annotated[str | None, Flag(choices=ABLATIONS)] = None
    """Network of Table 4 of the CHR paper, with its levels and loss."""
    num_levels: int | None = None
    """Levels of features, the last of the backbone's: 2, 3, 4."""
    backbone: str | None = None
    """A timm network: resnet18, resnet34, ..."""
    batch_size: int | None = None
    """Scans of a batch, all devices together."""
    accumulate_batches: int | None = None
    """Batches whose gradients make one step together."""
    num_devices: Annotated[int | None, Flag("--devices")] = None
    """GPUs (or on a CPU processes) that train together; all GPUs if not given."""
    image_size_px: Annotated[int | None, Flag("--image-size")] = None
    """Side of the network's input in pixels."""
    learning_rate: float | None = None
    """The highest of the schedule."""
    layer_decay: float | None = None
    """Factor of the learning rate from each stage of the backbone to the one before it, e.g. 0.7."""
    frozen_stages: int | None = None
    """First stages of the backbone that keep their ImageNet weights, e.g. 2."""
    positive_repeats: int | None = None
    """How often a scan with an item comes in an epoch."""
    positive_fraction: float | None = None
    """Share of an epoch that scans with an item make up, e.g. 0.5."""
    ema_decay: float | None = None
    """Share of the moving average of weights, which is rated and saved, that stays at each step, e.g. 0.998."""
    localization: float | None = None
    """Weight of the loss that draws peaks into boxes; 0: learn from labels alone."""
    scale: float | None = None
    """Share by which a view is larger or smaller than the scan, at most."""
    aspect: float | None = None
    """Share by which the ratio of a view's sides changes, at most."""
    exposure: float | None = None
    """Share by which the power of transmission changes, at most: thicker and thinner materials."""
    upside_down: bool | None = None
    """Mirror half of the views top to bottom."""
    quarter_turns: bool | None = None
    """Rotate views by multiples of 90 degrees."""
    mixed: float | None = None
    """Share of the scans that are multiplied by another scan, e.g. 0.5."""
    projected: float | None = None
    """Share of the scans into which an object of another is projected, half of them items."""
    patience: int | None = None
    """Epochs without improvement before a run ends."""
    backbone_weights: str | None = None
    """safetensors file with ImageNet weights under timm's names."""
    no_pretrained: Annotated[bool, Flag(action="store_true")] = False
    """Start from random weights."""
    validation_fraction: float | None = None
    """Fraction of the training split that is held out to choose the epoch."""


class _NamesAndFiles(tuple[str, ...]):
    """Names of recipes to choose from; a TOML file may be chosen too."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).endswith(SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJobConfig:
    """What to train on which dataset, and where."""

    data: str
    """A dataset that `sixray convert` wrote."""
    output: str
    """Folder of the run; the result is its folder `model`."""
    recipe: Annotated[str, Flag(choices=_NamesAndFiles(sorted(RECIPES)))] = "default"
    """Recipe, which the other flags change: a TOML file as `--print-recipe` writes it, or a name."""
    seed: int | None = None
    """Seed of weights, order, augmentation and of what is held out."""
    initial_model: str | None = None
    """Folder of a model to start from: stage II of SXMNet, from stage I's."""
    level_labels: str | None = None
    """Table of `sixray label-levels`, to train Meta Fusion with (MF-N)."""
    checkpoint_seconds: float = 300.0
    """Seconds between checkpoints inside an epoch."""
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(TrainJobConfig):
    folds: Annotated[int | None, Flag(metavar="K")] = None
    """Train K models, each without one K-th of the bags, and score the scans of these with it: `predictions` has the
    training split as rated by models that have not seen it."""


def train_network(config: TrainJobConfig, left_out: Fold | None = None) -> TrainResult:
    """Train a network; an unfinished run in the same folder is resumed, a finished one is returned as it is.

    Args:
        config: what to train.
        left_out: the fold that is not trained on.

    Raises:
        ValueError: the recipe, its changes, the dataset and the devices do not fit together, or the folder holds
            another run.
    """
    recipe = configure(config.recipe, config.seed, config.overrides)
    prepared = with_inputs(recipe, initial_model=config.initial_model, level_labels=config.level_labels)
    if prepared.frozen_stages and not prepared.pretrained and prepared.initial_model is None:
        raise ValueError(
            f"frozen_stages must go with weights that were learnt, got {prepared.frozen_stages} stages of random ones; "
            f"drop --no-pretrained, or name --backbone-weights or --initial-model"
        )
    # Lightning logs at `info` which accelerators it looked for, and advertises; what matters is in run.json.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    hardware = choose_hardware(config.overrides.num_devices)
    return train(
        open_dataset(config.data),
        config.output,
        split_batch_across_devices(prepared, hardware.num_devices),
        hardware=hardware,
        callbacks=[ShowProgress()],
        checkpoint_seconds=config.checkpoint_seconds,
        left_out=left_out,
    )


def choose_hardware(num_devices: int | None) -> Hardware:
    """Return this machine's hardware with as many devices as were asked for; all GPUs if None."""
    hardware = detect_hardware()
    return hardware if num_devices is None else replace(hardware, num_devices=num_devices)


def configure(recipe_name: str, seed: int | None, overrides: Overrides) -> TrainConfig:
    """Return the config of a recipe, by name or file, with its changes; ValueError if they do not fit together."""
    recipe = with_ablation(load_recipe(recipe_name), overrides.network, overrides.num_levels)
    backbone = overrides.backbone or recipe.backbone
    size_px = overrides.image_size_px or recipe.image_size_px
    # A file says of itself whether it starts from ImageNet weights.
    is_found = (recipe_name in RECIPES or overrides.backbone is not None) and find_package(backbone) is not None
    changes: dict[str, Any] = {
        "max_epochs": overrides.max_epochs,
        "backbone": overrides.backbone,
        "batch_size": overrides.batch_size,
        "learning_rate": overrides.learning_rate,
        "validation_fraction": overrides.validation_fraction,
        "seed": seed,
        "accumulate_batches": overrides.accumulate_batches,
        "layer_decay": overrides.layer_decay,
        "frozen_stages": overrides.frozen_stages,
        "positive_repeats": 1 if overrides.positive_fraction else overrides.positive_repeats,
        "positive_fraction": overrides.positive_fraction,
        "ema_decay": overrides.ema_decay,
        "localization": overrides.localization,
        "augmentation": _augmentation(recipe.augmentation, overrides),
        "patience": overrides.patience,
        "backbone_weights": overrides.backbone_weights,
        # The recipe's margin for the random crop, kept in proportion.
        "image_size_px": size_px,
        "resize_px": math.ceil(size_px * recipe.resize_px / recipe.image_size_px),
        "pretrained": not overrides.no_pretrained
        and (recipe.pretrained or overrides.backbone_weights is not None or is_found),
    }
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def _augmentation(of_recipe: AugmentationConfig, overrides: Overrides) -> AugmentationConfig:
    named = {of.name: getattr(overrides, of.name) for of in fields(AugmentationConfig)}
    return replace(of_recipe, **{name: value for name, value in named.items() if value is not None})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    flags = make_parser().parse_args(argv)
    config = make_config(_Flags, flags)
    if flags.print_recipe:
        sys.stdout.write(_effective_recipe(config))
    elif config.folds is None:
        sys.stdout.write(_summarise(train_network(config)))
    else:
        from pipelines.train_folds import train_folds  # imports Beam, which training alone does without

        sys.stdout.write(train_folds(config, config.folds))
    return command_line.OK


def _effective_recipe(config: TrainJobConfig) -> str:
    recipe = configure(config.recipe, config.seed, config.overrides)
    if config.initial_model is not None or config.level_labels is not None:
        recipe = with_inputs(recipe, initial_model=config.initial_model, level_labels=config.level_labels)
    return format_recipe(recipe)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    parser = command_line.make_parser(
        "train",
        _Flags,
        "Train a network on a dataset's training split. The same command again resumes a run that was stopped.",
    )
    what = "Write the recipe, with what flags change, to stdout as TOML and train nothing; needs no --data, no --output"
    parser.add_argument("--print-recipe", action=_PrintAction, nargs=0, default=False, help=what)
    return parser


class _PrintAction(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        namespace.print_recipe = True
        for action in parser._actions:
            action.required = False


def _summarise(result: TrainResult) -> str:
    provenance = result.model.provenance
    head = "run is finished, nothing to do" if result.was_finished else "run finished"
    rating = next(name for name in provenance if name.startswith("validation_"))
    return (
        f"{head}: epoch {provenance['epoch']} of {provenance['config']['max_epochs']}, "
        f"{words(rating)} {figure(provenance[rating])}{_positives(provenance)}\n{_levels(provenance)}"
        f"model {result.model.model_id}\n{result.model_url}\n"
    )


def _positives(provenance: dict[str, Any]) -> str:
    found = provenance.get("positives_per_step")  # models of earlier releases do not say
    if found is None:
        return ""
    return (
        f", {found['mean']:.1f} positives in a step of {found['scans_per_step']} scans "
        f"(none in {found['fraction_of_steps_without']:.1%} of steps)"
    )


def _levels(provenance: dict[str, Any]) -> str:
    """Return what each level decided in the epoch, a line; a level that judges nothing shows here."""
    if "levels" not in provenance:
        return ""
    parts = {"peaks": "of peaks", "least_loss": "of least losses", "negatives": "of negatives judged"}
    shares = (
        " / ".join("none" if share is None else f"{share:.0%}" for share in provenance["levels"][name]) + f" {what}"
        for name, what in parts.items()
    )
    return f"levels, finest first: {', '.join(shares)}\n"


if __name__ == "__main__":
    sys.exit(main())
