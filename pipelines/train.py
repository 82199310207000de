"""Train a network on a dataset by a recipe."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from model.hardware import Hardware, detect_hardware
from model.inputs.augmentation import AugmentationConfig
from model.networks.weights import find_package
from model.recipes.chr import ABLATIONS, with_ablation
from model.recipes.registry import RECIPES
from model.recipes.sxmnet import with_inputs
from model.training.config import TrainConfig, split_batch_across_devices
from model.training.trainer import TrainResult, train
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, make_config
from pipelines.runtime.progress import Progress
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
    patience: int | None = None
    """Epochs without improvement before a run ends."""
    backbone_weights: str | None = None
    """safetensors file with ImageNet weights under timm's names."""
    no_pretrained: Annotated[bool, Flag(action="store_true")] = False
    """Start from random weights."""
    validation_fraction: float | None = None
    """Fraction of the training split that is held out to choose the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJobConfig:
    """What to train on which dataset, and where."""

    data: str
    """A dataset that `sixray convert` wrote."""
    output: str
    """Folder of the run; the result is its folder `model`."""
    recipe: Annotated[str, Flag(choices=sorted(RECIPES))] = "default"
    """Recipe, which the other flags change."""
    seed: int | None = None
    """Seed of weights, order, augmentation and of what is held out."""
    initial_model: str | None = None
    """Folder of a model to start from: stage II of SXMNet, from stage I's."""
    level_labels: str | None = None
    """Table of `sixray label-levels`, to train Meta Fusion with (MF-N)."""
    checkpoint_seconds: float = 300.0
    """Seconds between checkpoints inside an epoch."""
    overrides: Overrides = field(default_factory=Overrides)


def train_network(config: TrainJobConfig) -> TrainResult:
    """Train a network; an unfinished run in the same folder is resumed, a finished one is returned as it is.

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
    )


def choose_hardware(num_devices: int | None) -> Hardware:
    """Return this machine's hardware with as many devices as were asked for; all GPUs if None."""
    hardware = detect_hardware()
    return hardware if num_devices is None else replace(hardware, num_devices=num_devices)


def configure(recipe_name: str, seed: int | None, overrides: Overrides) -> TrainConfig:
    """Return the config of a recipe with its changes; ValueError if they do not fit together."""
    recipe = with_ablation(RECIPES[recipe_name](), overrides.network, overrides.num_levels)
    backbone = overrides.backbone or recipe.backbone
    size_px = overrides.image_size_px or recipe.image_size_px
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
        and (recipe.pretrained or overrides.backbone_weights is not None or find_package(backbone) is not None),
    }
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def _augmentation(of_recipe: AugmentationConfig, overrides: Overrides) -> AugmentationConfig:
    named = {of.name: getattr(overrides, of.name) for of in fields(AugmentationConfig)}
    return replace(of_recipe, **{name: value for name, value in named.items() if value is not None})


class ShowProgress(Callback):
    """Shows on stderr how many scans went by, how fast, and how good the network is after each epoch."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the progress for what is left of the run."""
        if trainer.is_global_zero:
            module: Any = pl_module
            num_epochs, num_steps = divmod(trainer.global_step, module.num_steps_per_epoch)
            num_seen = num_epochs * module.num_scans_per_epoch + num_steps * module.num_scans_per_step
            total = trainer.max_epochs * module.num_scans_per_epoch - num_seen
            self._progress = Progress("train", total=total).__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the scans of all ranks."""
        if self._progress is not None:
            self._progress.advance(len(batch.rows_B) * trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the loss and the validation figure of the epoch."""
        if trainer.is_global_zero:
            module: Any = pl_module
            found = {name: float(value) for name, value in trainer.callback_metrics.items()}
            log.status(
                f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                f"mean loss {found['train/loss_epoch']:.4f}, "
                f"validation {_words(module.config.loss.rating)} {_figure(found.get(module.rating))}"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the progress."""
        self._close(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the progress with what stopped the run."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self._progress is not None:
            self._progress.__exit__(type(error) if error is not None else None, error, None)
            self._progress = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    sys.stdout.write(_summarise(train_network(make_config(TrainJobConfig, make_parser().parse_args(argv)))))
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "train",
        TrainJobConfig,
        "Train a network on a dataset's training split. The same command again resumes a run that was stopped.",
    )


def _summarise(result: TrainResult) -> str:
    provenance = result.model.provenance
    head = "run is finished, nothing to do" if result.was_finished else "run finished"
    rating = next(name for name in provenance if name.startswith("validation_"))
    return (
        f"{head}: epoch {provenance['epoch']} of {provenance['config']['max_epochs']}, "
        f"{_words(rating)} {_figure(provenance[rating])}{_positives(provenance)}\n"
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


def _words(rating: str) -> str:
    return rating.replace("_", " ")


def _figure(value: float | None) -> str:
    return "undefined (no held-out positives)" if value is None or math.isnan(value) else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
