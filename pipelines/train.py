"""How does a dataset become a model? `sixray train`: a recipe, a few flags, and Lightning's loop around them."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from model.hardware import Hardware, detect_hardware
from model.recipes.chr import ABLATIONS, with_ablation
from model.recipes.registry import RECIPES
from model.recipes.sxmnet import prepare
from model.training.config import TrainConfig, split_batch_across_devices
from model.training.trainer import TrainResult, train
from pipelines.runtime.command_line import OK, make_parser, run_command
from pipelines.runtime.progress import Progress
from shards.format.dataset import open_dataset


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sixray train`; repeated over a run that was stopped it goes on, over a finished one it does nothing."""
    return run_command(_run, argv)


def _run(argv: Sequence[str]) -> int:
    flags = _parser().parse_args(argv)
    config = prepare(configure(flags), initial_model=flags.initial_model, level_labels=flags.level_labels)
    # Lightning says on `info` which accelerators it looked for, and advertises; what matters is in run.json.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    hardware = choose_hardware(flags.devices)
    result = train(
        open_dataset(flags.data),
        flags.output,
        split_batch_across_devices(config, hardware.num_devices),
        hardware=hardware,
        callbacks=[ShowProgress()],
        checkpoint_seconds=flags.checkpoint_seconds,
    )
    sys.stdout.write(_summarise(result))
    return OK


def choose_hardware(num_devices: int | None) -> Hardware:
    """Return what this machine has, with as many devices as were asked for; all GPUs where None."""
    hardware = detect_hardware()
    return hardware if num_devices is None else replace(hardware, num_devices=num_devices)


def configure(flags: argparse.Namespace) -> TrainConfig:
    """Return the recipe's config with what the flags change; ValueError where they do not fit together."""
    recipe = with_ablation(RECIPES[flags.recipe](), flags.network, flags.num_levels)
    size_px = flags.image_size or recipe.image_size_px
    changes = {
        "max_epochs": flags.max_epochs,
        "backbone": flags.backbone,
        "batch_size": flags.batch_size,
        "learning_rate": flags.learning_rate,
        "validation_fraction": flags.validation_fraction,
        "seed": flags.seed,
        "accumulate_batches": flags.accumulate_batches,
        "positive_repeats": 1 if flags.positive_fraction else flags.positive_repeats,
        "positive_fraction": flags.positive_fraction,
        "patience": flags.patience,
        "backbone_weights": flags.backbone_weights,
        # The recipe's margin for the random crop, kept in proportion.
        "image_size_px": size_px,
        "resize_px": math.ceil(size_px * recipe.resize_px / recipe.image_size_px),
        "pretrained": (recipe.pretrained or flags.backbone_weights is not None) and not flags.no_pretrained,
    }
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


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
        """Say what the epoch brought."""
        if trainer.is_global_zero:
            module: Any = pl_module
            found = {name: float(value) for name, value in trainer.callback_metrics.items()}
            print(
                f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                f"mean loss {found['train/loss_epoch']:.4f}, "
                f"validation {_words(module.config.loss.rating)} {_figure(found.get(module.rating))}",
                file=sys.stderr,
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the progress."""
        self._close(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the progress, saying what stopped the run."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self._progress is not None:
            self._progress.__exit__(type(error) if error is not None else None, error, None)
            self._progress = None


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "train",
        "Train a network on a dataset's training split. The same command again goes on where a run was stopped.",
    )
    parser.add_argument("--data", required=True, help="a dataset that `sixray convert` wrote")
    parser.add_argument("--output", required=True, help="folder of the run; the result is its folder `model`")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="default", help="what the other flags change")
    parser.add_argument("--seed", type=int, help="of weights, order, augmentation and of what is held out")
    parser.add_argument("--initial-model", help="folder of a model to start from: stage II of SXMNet, from stage I's")
    parser.add_argument("--level-labels", help="table of `sixray label-levels`, to train Meta Fusion with (MF-N)")
    parser.add_argument("--checkpoint-seconds", type=float, default=300.0, help="between checkpoints inside an epoch")
    add_overrides(parser)
    return parser


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the flags that change a recipe, other than the seed; `configure` reads them."""
    parser.add_argument("--max-epochs", type=int, help="passes over the training split")
    parser.add_argument("--network", choices=ABLATIONS, help="of Table 4 of the CHR paper, with its levels and loss")
    parser.add_argument("--num-levels", type=int, help="of features, the last of the backbone's: 2, 3, 4")
    parser.add_argument("--backbone", help="a timm network: resnet18, resnet34, ...")
    parser.add_argument("--batch-size", type=int, help="scans of a batch, all devices together")
    parser.add_argument("--accumulate-batches", type=int, help="batches whose gradients make one step together")
    parser.add_argument(
        "--devices", type=int, help="GPUs (or on a CPU processes) that train together; all GPUs if not given"
    )
    parser.add_argument("--image-size", type=int, help="side of the network's input in pixels")
    parser.add_argument("--learning-rate", type=float, help="the highest of the schedule")
    parser.add_argument("--positive-repeats", type=int, help="how often a scan with an item comes in an epoch")
    parser.add_argument("--positive-fraction", type=float, help="share of an epoch that such scans make up, e.g. 0.5")
    parser.add_argument("--patience", type=int, help="epochs that may be no better before a run ends")
    parser.add_argument("--backbone-weights", help="safetensors file with ImageNet weights under timm's names")
    parser.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    parser.add_argument("--validation-fraction", type=float, help="of the training split, held out to choose the epoch")


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
