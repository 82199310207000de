"""How does a network learn? One run on a dataset, by Lightning: stopped at any moment it goes on exactly.

Shapes: B batch  K classes  N held-out scans  C colour  H W pixels
"""

import logging
import math
import pickle
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from model import metrics
from model.feed import Batch, FeedConfig, TrainingFeed, ValidationFeed, epoch_entries, num_batches
from model.hardware import Hardware, detect_hardware
from model.losses import hierarchical_loss
from model.network import ModelConfig, build_network
from model.run_dir import RunDir, claim_run_dir
from model.samples import Samples, hold_out, load_samples
from model.store import LoadedModel, load_model, save_model
from model.train_config import AdamW, Sgd, TrainConfig
from shards import storage
from shards.dataset import Dataset
from shards.versions import installed_versions

TRAIN_SPLIT = "train"
MEAN_AP = "validation/mean_average_precision"
_LOG_STEPS = 10
_LIGHTNING_WARNINGS = (
    # Lightning 2.6 asks PyTorch 2.9 and later in a way that will go; nothing that a user could change.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # It is meant so: small datasets have fewer steps than the logging interval.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run ended with."""

    model: LoadedModel
    model_url: str
    was_finished: bool
    """Nothing was done: the folder held the model already."""


def train(
    dataset: Dataset,
    output: str,
    config: TrainConfig,
    *,
    hardware: Hardware | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint_seconds: float = 300.0,
) -> TrainResult:
    """Train a network on the dataset's training split; a folder that holds the same run unfinished is gone on with.

    Args:
        dataset: its split `train` is used, less the part held out by `config.validation_fraction`; nothing else.
        output: the run's folder, any fsspec URL; see `model.run_dir`.
        config: what to compute.
        hardware: where; what this machine has by default.
        callbacks: Lightning's, for progress.
        checkpoint_seconds: between checkpoints inside an epoch; one is written after each epoch besides.

    Raises:
        ValueError: the folder belongs to another run, the split is absent or empty, or weights cannot be had.
    """
    hardware = hardware or detect_hardware()
    run_dir = claim_run_dir(output, config, dataset.manifest.digest, hardware)
    if run_dir.is_finished:
        return TrainResult(load_model(run_dir.model_url), run_dir.model_url, was_finished=True)
    if run_dir.is_started:
        _read_checkpoint(run_dir.last_url)  # Lightning would explain how to load a pickle all the same
    training, held_out = hold_out(load_samples(dataset, TRAIN_SPLIT), config.validation_fraction, config.seed)
    if len(training) == 0:
        raise ValueError(
            f"samples must be at least 1 scan to train on, got 0 and {len(held_out)} held out "
            f"(split {TRAIN_SPLIT!r} of {dataset.url})"
        )
    model_config = _model_config(config, dataset)
    torch.manual_seed(config.seed)
    # A run that goes on has its weights in the checkpoint.
    network = build_network(
        model_config,
        pretrained=config.pretrained and not run_dir.is_started,
        weights_file=None if run_dir.is_started else config.backbone_weights,
    )
    module = TrainingModule(network, config, training, held_out, hardware)
    keeper = CheckpointKeeper(run_dir, checkpoint_seconds)
    _fit(module, run_dir, hardware, [*callbacks, keeper])
    module.load_state_dict(_read_checkpoint(keeper.result_url)["state_dict"])
    save_model(run_dir.model_url, network, model_config, _provenance(config, dataset, keeper))
    return TrainResult(load_model(run_dir.model_url), run_dir.model_url, was_finished=False)


class TrainingModule(LightningModule):
    """The loop's body: a batch in, a loss out; held-out scans in, average precisions out."""

    def __init__(
        self, network: nn.Module, config: TrainConfig, training: Samples, held_out: Samples, hardware: Hardware
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.training_samples = training
        self.held_out = held_out
        self._hardware = hardware
        self._validation: list[tuple[Tensor, Tensor]] = []

    @property
    def num_steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, over all ranks."""
        return num_batches(self.num_scans_per_epoch, self.config.batch_size, self.trainer.world_size)

    @property
    def num_scans_per_epoch(self) -> int:
        """Scans seen in one epoch, over all ranks; positives count as often as they come."""
        return len(epoch_entries(self.training_samples.labels_NK, self.config.positive_repeats))

    def train_dataloader(self) -> TrainingFeed:
        """Return the rank's feed; its place in the epoch travels with the checkpoints."""
        trainer = self.trainer
        return TrainingFeed(
            self.training_samples, self._feed_config(), rank=trainer.global_rank, world_size=trainer.world_size
        )

    def val_dataloader(self) -> ValidationFeed:
        """Return the rank's feed of held-out scans."""
        trainer = self.trainer
        return ValidationFeed(
            self.held_out, self._feed_config(), rank=trainer.global_rank, world_size=trainer.world_size
        )

    def configure_optimizers(self) -> Any:
        """Return the optimizer, its rate set anew at each step."""
        config = self.config
        optimizer = _build_optimizer(config, self.network)
        num_steps = config.max_epochs * self.num_steps_per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: config.schedule.factor(min(step / num_steps, 1.0))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        # Dropout, where a backbone has it, must not depend on where a run was resumed.
        torch.manual_seed(hash((self.config.seed, self.global_step, self.global_rank)))
        output = self.network(batch.images_BCHW)
        loss = hierarchical_loss(output.level_logits_LBK, batch.labels_BK, self.config.loss)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/num_positive", (batch.labels_BK == 1).sum().float())
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the fused logits of one batch of held-out scans."""
        self._validation.append((self.network(batch.images_BCHW).logits_BK, batch.labels_BK))

    def on_validation_epoch_end(self) -> None:
        """Rate the held-out scans of all ranks together."""
        logits_NK, labels_NK = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        if self.trainer.world_size > 1:
            logits_NK = self.all_gather(logits_NK).flatten(0, 1)  # type: ignore[union-attr]
            labels_NK = self.all_gather(labels_NK).flatten(0, 1)  # type: ignore[union-attr]
        found = validation_average_precisions(logits_NK.cpu().numpy(), labels_NK.cpu().numpy())
        for name, value in zip(self.held_out.classes, found, strict=True):
            if value is not None:
                self.log(f"validation/average_precision/{name}", value)
        self.log(MEAN_AP, mean_of_defined(found), prog_bar=True)

    def _feed_config(self) -> FeedConfig:
        config, model_config = self.config, ModelConfig(backbone=self.config.backbone, classes=("any",))
        return FeedConfig(
            batch_size=config.batch_size,
            crop_px=config.image_size_px,
            resize_px=config.resize_px,
            mean=model_config.mean,
            std=model_config.std,
            decode_device=self._hardware.decode_device,
            num_threads=max(1, self._hardware.num_cores // self.trainer.num_devices),
            device_id=self.local_rank if self._hardware.device == "cuda" else None,
            seed=config.seed,
            positive_repeats=config.positive_repeats,
        )


def validation_average_precisions(logits_NK: np.ndarray, labels_NK: np.ndarray) -> list[float | None]:
    """Return the non-interpolated average precision of each class; None for a class without known positives.

    Args:
        logits_NK: fused logits; a NaN among them (a network that diverged) makes every figure None.
        labels_NK: 1 present, 0 absent, NaN unknown (padding among them).
    """
    if not np.isfinite(logits_NK).all():
        _log.warning("logits of held-out scans must be finite, got NaN or infinity: the network has diverged")
        return [None] * logits_NK.shape[1]
    coded_NK = np.where(np.isnan(labels_NK), metrics.UNKNOWN, labels_NK).astype(np.int8)
    return [
        metrics.average_precision(metrics.trace_curve(metrics.rank(logits_N, labels_N)))
        for logits_N, labels_N in zip(logits_NK.T, coded_NK.T, strict=True)
    ]


def mean_of_defined(values: Sequence[float | None]) -> float:
    """Return the mean of what is not None, NaN where nothing is left."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else math.nan


class CheckpointKeeper(Callback):
    """Keeps the last state and that of the best epoch; Lightning writes each under another name and renames it."""

    def __init__(self, run_dir: RunDir, every_seconds: float) -> None:
        self._run_dir = run_dir
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()
        self.best: dict[str, Any] = {"epoch": None, "mean_average_precision": None}
        """Of the best epoch so far, counted from 1; None until a mean average precision was defined."""
        self._num_epochs = 0

    @property
    def result_url(self) -> str:
        """The checkpoint that becomes the model: the best epoch's, the last where none could be rated."""
        return self._run_dir.last_url if self.best["epoch"] is None else self._run_dir.best_url

    @property
    def result_epoch(self) -> int:
        """The epoch of `result_url`, counted from 1."""
        return self._num_epochs if self.best["epoch"] is None else int(self.best["epoch"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the last state where that is due; all ranks follow the first one's clock."""
        is_due = time.monotonic() - self._saved_at >= self._every_seconds
        if trainer.strategy.broadcast(is_due):
            self._save(trainer, self._run_dir.last_url)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch if it is the best so far, and then as the last: validation has run by now."""
        self._num_epochs = trainer.current_epoch + 1
        rating = float(trainer.callback_metrics.get(MEAN_AP, math.nan))
        best = self.best["mean_average_precision"]
        if math.isfinite(rating) and (best is None or rating > best):
            self.best = {"epoch": self._num_epochs, "mean_average_precision": rating}
            self._save(trainer, self._run_dir.best_url)
        self._save(trainer, self._run_dir.last_url)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"best": self.best, "num_epochs": self._num_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best, self._num_epochs = state_dict["best"], state_dict["num_epochs"]

    def _save(self, trainer: Trainer, url: str) -> None:
        trainer.save_checkpoint(url)
        self._saved_at = time.monotonic()


def _fit(module: TrainingModule, run_dir: RunDir, hardware: Hardware, callbacks: list[Callback]) -> None:
    logs_url = storage.join_url(run_dir.url, "logs")
    loggers = [
        CSVLogger(logs_url, name="csv"),
        TensorBoardLogger(logs_url, name="tensorboard", version=""),
    ]
    trainer = Trainer(
        accelerator=hardware.device,
        devices="auto" if hardware.device == "cuda" else 1,
        precision="bf16-mixed" if hardware.dtype == "bfloat16" else "32-true",
        max_epochs=module.config.max_epochs,
        logger=loggers,
        callbacks=callbacks,
        log_every_n_steps=_LOG_STEPS,
        limit_val_batches=1.0 if len(module.held_out) else 0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        for message in _LIGHTNING_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, ckpt_path=run_dir.last_url if run_dir.is_started else None, weights_only=True)


def _build_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    match config.optimizer:
        case Sgd(momentum=momentum, weight_decay=weight_decay):
            return torch.optim.SGD(
                network.parameters(), lr=config.learning_rate, momentum=momentum, weight_decay=weight_decay
            )
        case AdamW(weight_decay=weight_decay):
            return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=weight_decay)


def _model_config(config: TrainConfig, dataset: Dataset) -> ModelConfig:
    return ModelConfig(
        network=config.network,
        backbone=config.backbone,
        classes=dataset.manifest.scored_classes,
        num_levels=config.num_levels,
        image_size_px=config.image_size_px,
    )


def _read_checkpoint(url: str) -> dict[str, Any]:
    with storage.open_reader(url) as handle:
        try:
            checkpoint: dict[str, Any] = torch.load(handle, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"checkpoint must be whole and hold plain tensors and values alone, got something else ({url}); "
                f"no pickled object is ever loaded: remove the file to begin the run again"
            ) from error
    return checkpoint


def _provenance(config: TrainConfig, dataset: Dataset, keeper: CheckpointKeeper) -> dict[str, Any]:
    return {
        "config": config.to_json(),
        "dataset_digest": dataset.manifest.digest,
        "epoch": keeper.result_epoch,
        "validation_mean_average_precision": keeper.best["mean_average_precision"],
        "versions": installed_versions("torch", "timm"),
    }
