"""Save and read the checkpoints of a run, and choose the epoch that becomes the model; no pickled objects."""

import math
import pickle
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from model.training.run_dir import RunDir
from shards import storage

VOTE_BATCHES = 50
"""Ranks agree once in so many batches on what interrupts an epoch, a checkpoint or SIGTERM: the host waits for the GPU
there, which otherwise computes a step while the next one is launched."""


class CheckpointKeeper(Callback):
    """Saves the last state and that of the best epoch; Lightning writes each to a temporary name and renames it.

    A run that has diverged ends with `DivergedError` before its state is saved. A run stops after `patience` epochs
    that were no better than the best.
    """

    def __init__(self, run_dir: RunDir, every_seconds: float, rating: str, patience: int | None = None) -> None:
        """Make a keeper.

        Args:
            run_dir: of the run.
            every_seconds: between checkpoints within an epoch; another is written after each epoch.
            rating: the logged figure that rates an epoch, higher is better.
            patience: in epochs; None: no early stop.
        """
        self._run_dir = run_dir
        self._every_seconds = every_seconds
        self._rating = rating
        self._patience = patience
        self._saved_at = time.monotonic()
        self.best: dict[str, Any] = {"epoch": None, "rating": None}
        """The best epoch so far, counted from 1, and its rating; None until a rating is defined."""
        self.num_epochs = 0
        """Epochs completed."""

    @property
    def result_url(self) -> str:
        """The checkpoint that becomes the model: of the best epoch, or the last if none has a rating."""
        return self._run_dir.last_url if self.best["epoch"] is None else self._run_dir.best_url

    @property
    def result_epoch(self) -> int:
        """The epoch of `result_url`, counted from 1."""
        return self.num_epochs if self.best["epoch"] is None else int(self.best["epoch"])

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the last `patience` epochs were no better than one before them."""
        best = self.best["epoch"]
        return self._patience is not None and best is not None and self.num_epochs - best >= self._patience

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the resumed run had run out of patience already."""
        trainer.should_stop = trainer.should_stop or self.is_out_of_patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the ranks vote on SIGTERM as seldom as on checkpoints; Lightning does so before each batch."""
        loop: Any = trainer.fit_loop.epoch_loop
        vote = loop._broadcast_sigterm_tensor  # Lightning offers no setting; a rank that was signalled stops by itself

        def vote_seldom() -> None:
            if is_vote(trainer, loop.batch_idx):
                vote()

        loop._broadcast_sigterm_tensor = vote_seldom

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the last state if that is due by the clock of the first rank."""
        if not is_vote(trainer, batch_idx):
            return
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # checkpoints do not hold accumulated gradients
        if batch_idx + 1 >= trainer.num_training_batches:
            return  # resumed from here, Lightning would skip the epoch's validation
        is_due = time.monotonic() - self._saved_at >= self._every_seconds
        if trainer.strategy.broadcast(is_due):
            self._save(trainer, pl_module, self._run_dir.last_url)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state as the best, if it is, and as the last; validation has run before."""
        module: Any = pl_module
        module.require_finite("mean loss", [trainer.callback_metrics["train/loss_epoch"]])
        self.num_epochs = trainer.current_epoch + 1
        rating = float(trainer.callback_metrics.get(self._rating, math.nan))
        if math.isfinite(rating) and (self.best["rating"] is None or rating > self.best["rating"]):
            self.best = {"epoch": self.num_epochs, "rating": rating}
            self._save(trainer, pl_module, self._run_dir.best_url)
        self._save(trainer, pl_module, self._run_dir.last_url)
        trainer.should_stop = trainer.should_stop or self.is_out_of_patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best, "num_epochs": self.num_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        best = dict(state_dict["best"])
        if "mean_average_precision" in best:  # the key of earlier releases
            best["rating"] = best.pop("mean_average_precision")
        self.best, self.num_epochs = best, state_dict["num_epochs"]

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state from a checkpoint: after a run in other processes, this process has none."""
        self.load_state_dict(checkpoint["callbacks"][self.state_key])

    def _save(self, trainer: Trainer, pl_module: LightningModule, url: str) -> None:
        module: Any = pl_module
        module.require_finite("weights", module.state_dict().values())
        trainer.save_checkpoint(url)
        self._saved_at = time.monotonic()


def is_vote(trainer: Trainer, batch_idx: int) -> bool:
    """Say whether the ranks agree after this batch of the epoch; a single one may at every batch."""
    return trainer.world_size == 1 or (batch_idx + 1) % VOTE_BATCHES == 0


def read_checkpoint(url: str) -> dict[str, Any]:
    """Return a checkpoint; ValueError if it is damaged or holds anything but tensors and plain values."""
    with storage.open_reader(url) as handle:
        try:
            checkpoint: dict[str, Any] = torch.load(handle, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"checkpoint must be whole and hold plain tensors and values alone, got something else ({url}); "
                f"no pickled object is ever loaded: remove the file to begin the run again"
            ) from error
    return checkpoint
