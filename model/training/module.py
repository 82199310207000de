"""Define the training and validation steps that Lightning's loop runs.

Shapes: B batch  K classes  N held-out scans  C colour  H W pixels
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from model.hardware import Hardware
from model.inputs.batch import Batch
from model.inputs.feeds import FeedConfig, TrainingFeed, ValidationFeed
from model.inputs.sample_table import SampleTable
from model.inputs.sampling import epoch_entries, epoch_order, num_batches, num_entries_in_step, repeats_of_positives
from model.networks.bf16 import train_depthwise_in_float32
from model.networks.config import ModelConfig
from model.training.config import TrainConfig
from model.training.level_counts import LevelTally, share_levels
from model.training.localization_loss import localization_loss
from model.training.loss_base import sum_terms
from model.training.optimizer import build_optimizer

_LIGHTNING_WARNINGS = (
    # Lightning 2.6 calls a function that PyTorch 2.9 and later deprecate; a user cannot change it.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # Intended: small datasets have fewer steps than the logging interval.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Intended: averages of weights and frozen stages.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Every rank rates the held-out scans of all ranks, so there is nothing to average.
    r"It is recommended to use `self.log\('validation/",
    # Lightning's own way to gather; a user cannot change it.
    r"torch.distributed.nn.functional.all_gather is deprecated",
    # Both memory layouts of a 1x1 kernel are the same.
    r"Grad strides do not match bucket view strides",
)


class DivergedError(ValueError):
    """Raised if a run has diverged; from another process it arrives as text and is recognised by its name."""


class TrainingModule(LightningModule):
    """A network, its loss and its scans; single-device code, run by one process a device."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        model_config: ModelConfig,
        training: SampleTable,
        held_out: SampleTable,
        hardware: Hardware,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        # Statistics of batch norms are averaged as weights are. The first steps are averaged less, since the weights
        # that a run begins with would else outlast a short one.
        self.average = ModelEmaV3(self.network, config.ema_decay, use_warmup=True) if config.ema_decay else None
        if self.average is not None:
            self.average.requires_grad_(False)
        config.loss.check_samples(training)
        config.loss.check_samples(held_out)
        self.num_scans_by_level = config.loss.count_levels(training)
        self.training_samples = training
        self.held_out = held_out
        self._model_config = model_config
        self._hardware = hardware
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._feed: TrainingFeed | None = None
        self._feed_state: dict[str, int] | None = None
        self._levels = LevelTally(config.num_levels)

    @property
    def rating(self) -> str:
        """The logged figure that chooses the epoch."""
        return f"validation/{self.config.loss.rating}"

    @property
    def result_network(self) -> nn.Module:
        """What is rated and becomes the model: the network, or the average of its weights over the steps."""
        return self.network if self.average is None else self.average.module

    @property
    def num_steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, over all ranks."""
        batches = num_batches(self.num_scans_per_epoch, self.config.batch_size, self._hardware.num_devices)
        return math.ceil(batches / self.config.accumulate_batches)

    @property
    def num_scans_per_step(self) -> int:
        """Scans of a full optimizer step, over all ranks."""
        return self.config.batch_size * self.config.accumulate_batches * self._hardware.num_devices

    @cached_property
    def num_scans_per_epoch(self) -> int:
        """Entries of one epoch, over all ranks; repeated positives count each time."""
        return len(epoch_entries(self.training_samples.labels_NK, self.positive_repeats))

    @cached_property
    def positive_repeats(self) -> int:
        """How often each positive is repeated in an epoch."""
        if self.config.positive_fraction:
            return repeats_of_positives(self.training_samples.labels_NK, self.config.positive_fraction)
        return self.config.positive_repeats

    def log_prior_K(self) -> Tensor:
        """Return the log odds that a scan of an epoch holds each class, float32 (K,); unknown labels do not count.

        Where scans are mixed or projected into, a share of those without a class gets it.
        """
        labels_EK = self.training_samples.labels_NK[
            epoch_entries(self.training_samples.labels_NK, self.positive_repeats)
        ]
        present_K, absent_K = ((labels_EK == value).sum(axis=0) + 1 for value in (1, 0))  # no class is impossible
        varied = self.config.augmentation
        gained_K = varied.projected / 2 / len(present_K) * absent_K
        gained_K += varied.mixed * (absent_K - gained_K) * (present_K + gained_K) / (present_K + absent_K)
        return torch.from_numpy(np.log((present_K + gained_K) / (absent_K - gained_K))).float()

    def positives_of_steps(self, epoch: int) -> np.ndarray:
        """Return the number of positive scans in each optimizer step of an epoch (from 0), int64, over all ranks."""
        labels_NK = self.training_samples.labels_NK
        rows_E = epoch_entries(labels_NK, self.positive_repeats)
        is_positive_E = (labels_NK == 1).any(axis=1)[rows_E][epoch_order(len(rows_E), self.config.seed, epoch)]
        starts = np.arange(0, len(rows_E), self.num_scans_per_step)
        counts: np.ndarray = np.add.reduceat(is_positive_E.astype(np.int64), starts)
        return counts

    def setup(self, stage: str) -> None:
        """Suppress Lightning's warnings about intended settings and choose number formats, in every process."""
        quiet_lightning()
        self._allowed_tf32 = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False  # what is said to be float32 is that of IEEE 754
        self._undo_float32 = train_depthwise_in_float32(self.network) if self._hardware.device == "cpu" else None

    def teardown(self, stage: str) -> None:
        """Leave the process as it was."""
        torch.backends.cudnn.allow_tf32 = self._allowed_tf32
        if self._undo_float32 is not None:
            self._undo_float32()

    def train_dataloader(self) -> TrainingFeed:
        """Return the rank's feed, at the place where the run resumes."""
        trainer = self.trainer
        self._feed = TrainingFeed(
            self.training_samples, self._feed_config(), rank=trainer.global_rank, world_size=trainer.world_size
        )
        if self._feed_state is not None:
            self._feed.load_state_dict(self._feed_state)
        return self._feed

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the feed's place: Lightning saves it too, but restores it only within an epoch, not between two."""
        if self._feed is not None:
            checkpoint["feed"] = self._feed.state_dict()
        checkpoint["level_counts"] = self._levels.total(self.trainer.strategy)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the feed's place, before the feed is made."""
        self._feed_state = checkpoint.get("feed")  # checkpoints of earlier releases have none
        if "level_counts" in checkpoint and self.global_rank == 0:  # they are of all ranks
            self._levels.restore(checkpoint["level_counts"])

    def val_dataloader(self) -> ValidationFeed:
        """Return the rank's feed of held-out scans."""
        trainer = self.trainer
        return ValidationFeed(
            self.held_out, self._feed_config(), rank=trainer.global_rank, world_size=trainer.world_size
        )

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which sets the rate at each step."""
        config = self.config
        optimizer = build_optimizer(config, self.network)
        num_steps = config.max_epochs * self.num_steps_per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: config.schedule.factor(min(step / num_steps, 1.0))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step and average its weights, before a checkpoint holds both."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update(self.network, step=self.global_step + 1)  # which Lightning counts after this

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, weighted by its share of the scans of its step."""
        # Dropout, where a backbone has it, must not depend on where a run was resumed.
        torch.manual_seed(hash((self.config.seed, self.global_step, batch_idx, self.global_rank)))
        output = self.network(batch.images_BCHW)
        terms = self.config.loss.terms(output, batch)
        if weight := self.config.localization:
            terms["localization"] = weight * localization_loss(output.heatmaps, batch.labels_BK, batch.boxes)
        loss = sum_terms(terms)
        if batch_idx == 0:
            self._levels.clear()
        self._levels.add(output, batch, self.config.loss)
        # The mean over the epoch's scans since the run started or resumed; that of one batch is noisy.
        num_scans = len(batch.rows_B)
        self.log("train/loss_epoch", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=num_scans)
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            self._log_step(batch, loss, terms)
        return loss * self._weight(num_scans, batch_idx)

    def _log_step(self, batch: Batch, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Log the figures of one step; ranks and host wait for one another here, so it is not done at every step."""
        parts = {f"train/loss/{name}": term for name, term in terms.items()} if len(terms) > 1 else {}
        self.log_dict({"train/loss": loss, **parts}, sync_dist=True)
        num_positive = (batch.labels_BK == 1).any(dim=1).sum().float()
        self.log("train/num_positive", num_positive, sync_dist=True, reduce_fx=torch.sum)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        if self.config.num_levels == 1:
            return
        for name, shares_L in share_levels(self._levels.total(self.trainer.strategy)).items():
            defined = {str(level): share for level, share in enumerate(shares_L, start=1) if share is not None}
            self.log_dict({f"train/levels/{name}/{level}": share for level, share in defined.items()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the evidence of one batch of held-out scans."""
        output = self.result_network(batch.images_BCHW)
        self._validation.append((self.config.loss.evidence(output, batch), batch.labels_BK))

    def on_validation_epoch_end(self) -> None:
        """Rate the held-out scans of all ranks together."""
        logits_NK, labels_NK = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.require_finite("output for held-out scans", [logits_NK])
        if self.trainer.world_size > 1:
            logits_NK = self.all_gather(logits_NK).flatten(0, 1)  # type: ignore[union-attr]
            labels_NK = self.all_gather(labels_NK).flatten(0, 1)  # type: ignore[union-attr]
        figures = self.config.loss.rate(logits_NK.cpu().numpy(), labels_NK.cpu().numpy(), self.held_out.classes)
        for name, value in figures.items():
            if value is not None or name == self.config.loss.rating:
                self.log(f"validation/{name}", math.nan if value is None else value, rank_zero_only=False)

    def require_finite(self, name: str, values: Iterable[Tensor]) -> None:
        """Raise DivergedError, on all ranks alike, if a value is NaN or infinite.

        It waits for the device, so it is called before something is saved, not at every step.
        """
        is_finite = torch.stack([value.isfinite().all() for value in values]).all()
        if not self.trainer.strategy.reduce_boolean_decision(bool(is_finite)):
            raise DivergedError(
                f"{name} must be finite, got NaN or infinity by step {self.global_step}, in epoch "
                f"{self.current_epoch + 1} (learning rate {self.config.learning_rate}): training has diverged; begin "
                f"again with a smaller --learning-rate and another --output"
            )

    def _weight(self, num_scans: int, batch_idx: int) -> float:
        """Return the factor that makes a step's gradient the mean over its scans, in any batches and ranks.

        Lightning divides by the number of accumulated batches and DDP by the number of ranks: that is the mean only if
        all batches have one size, which the last ones of an epoch do not.
        """
        config, world_size = self.config, self.trainer.world_size
        num_in_step = num_entries_in_step(
            self.num_scans_per_epoch, config.batch_size * world_size, config.accumulate_batches, batch_idx
        )
        return float(num_scans * config.accumulate_batches * world_size / num_in_step)

    def _feed_config(self) -> FeedConfig:
        config = self.config
        return FeedConfig(
            batch_size=config.batch_size,
            input=self._model_config.input,
            resize_px=config.resize_px,
            hardware=replace(self._hardware, num_cores=max(1, self._hardware.num_cores // self.trainer.num_devices)),
            device_index=self.local_rank,
            seed=config.seed,
            positive_repeats=self.positive_repeats,
            augmentation=config.augmentation,
        )


def quiet_lightning() -> None:
    """Ignore Lightning's warnings about intended settings, until the caller's `warnings.catch_warnings` ends."""
    for message in _LIGHTNING_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
