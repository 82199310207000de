"""Show on stderr how far training is, how fast, and how good the network is after each epoch."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.runtime import log
from pipelines.runtime.progress import Progress


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
                f"validation {words(module.config.loss.rating)} {figure(found.get(module.rating))}"
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


def words(rating: str) -> str:
    """Return the name of a figure in words."""
    return rating.replace("_", " ")


def figure(value: float | None) -> str:
    """Return a validation figure in words."""
    return "undefined (no held-out positives)" if value is None or math.isnan(value) else f"{value:.4f}"
