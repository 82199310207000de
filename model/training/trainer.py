"""Train a network on a dataset with Lightning, resumable from any moment with the same result."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from model.artifacts.model_files import read_model_files
from model.artifacts.saved_model import LoadedModel, load_model, save_model, start_from
from model.hardware import Hardware, detect_hardware
from model.inputs.sample_table import SampleTable, hold_out, load_sample_table
from model.networks.config import IMAGENET_MEAN, IMAGENET_STD, InputConfig, ModelConfig
from model.networks.registry import build_network, start_at_prior
from model.networks.stages import freeze_stages
from model.networks.sxmnet import freeze_all_but_attention
from model.networks.weights import pretrained_normalisation
from model.training.checkpoints import CheckpointKeeper, read_checkpoint
from model.training.config import TrainConfig, complete_document
from model.training.level_counts import share_levels
from model.training.level_labels import level_labels_sha256, read_level_labels
from model.training.module import DivergedError, TrainingModule, quiet_lightning
from model.training.run_dir import RunDir, claim_run_dir, find_run_dir, list_differences
from model.training.sxmnet_losses import AttentionLossConfig, MetaLossConfig, NeuralLabels
from shards import storage
from shards.curation.folds import Fold, assign_folds
from shards.format.classes import PRESENT
from shards.format.dataset import Dataset
from shards.host import installed_versions
from shards.predictions.trained_on import sample_checksums

TRAIN_SPLIT = "train"
DEVICES_STRATEGY = "ddp_spawn"
"""Lightning's, for several devices: its processes run `fit` only, so all before and after happens once."""
_LOG_STEPS = 10


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a run."""

    model: LoadedModel
    model_url: str
    was_finished: bool
    """The folder held the model already, so nothing was done."""


def train(
    dataset: Dataset,
    output: str,
    config: TrainConfig,
    *,
    hardware: Hardware | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint_seconds: float = 300.0,
    left_out: Fold | None = None,
) -> TrainResult:
    """Train a network on the dataset's training split; resumes an unfinished run in the same folder.

    Args:
        dataset: its split `train` is used, less the part held out by `config.validation_fraction`; nothing else.
        output: the run's folder, any fsspec URL; see `model.training.run_dir`.
        config: what to compute.
        hardware: the device; that of this machine by default.
        callbacks: Lightning's, for progress.
        checkpoint_seconds: between checkpoints within an epoch; another is written after each epoch.
        left_out: the fold of `find_folds` that is not trained on, nor used to choose the epoch.

    Raises:
        ValueError: the folder belongs to another run, the split is absent or empty, weights cannot be loaded, or the
            inputs from other runs do not fit.
        DivergedError: loss, weights or predictions are not finite; there is no model.
        InterruptedError: the process was asked to end; the same call resumes.
    """
    hardware = hardware or detect_hardware()
    inputs = _identify_inputs(config) | ({"left_out": str(left_out)} if left_out else {})
    run_dir = find_run_dir(output, config, dataset.manifest.digest, hardware, inputs)
    if run_dir.is_finished:
        return TrainResult(load_model(run_dir.model_url), run_dir.model_url, was_finished=True)
    if run_dir.is_started:
        read_checkpoint(run_dir.last_url)  # Lightning's error would explain how to load a pickle
    if config.initial_model is not None:
        _check_stage_one(config, dataset)
    training, held_out = hold_out(_load_scans(dataset, config, left_out), config.validation_fraction, config.seed)
    if len(training) == 0:
        raise ValueError(
            f"samples must be at least 1 scan to train on, got 0 and {len(held_out)} held out "
            f"(split {TRAIN_SPLIT!r} of {dataset.url})"
        )
    model_config = _model_config(config, dataset)
    network = _build_network(config, model_config, hardware, is_resumed=run_dir.is_started)
    module = TrainingModule(network, config, model_config, training, held_out, hardware)
    if not run_dir.is_started:
        start_at_prior(network, module.log_prior_K())
    # Another run may have claimed the folder since `find_run_dir`.
    claim_run_dir(output, config, dataset.manifest.digest, hardware, inputs)
    keeper = CheckpointKeeper(run_dir, checkpoint_seconds, module.rating, config.patience)
    _fit(module, run_dir, hardware, [keeper, *callbacks])
    keeper.restore(read_checkpoint(run_dir.last_url))
    chosen = read_checkpoint(keeper.result_url)
    module.load_state_dict(chosen["state_dict"])
    provenance = _provenance(module, dataset, keeper, inputs)
    if config.num_levels > 1 and "level_counts" in chosen:  # checkpoints of earlier releases have none
        provenance["levels"] = share_levels(chosen["level_counts"])
    save_model(run_dir.model_url, module.result_network, model_config, provenance)
    return TrainResult(load_model(run_dir.model_url), run_dir.model_url, was_finished=False)


def _identify_inputs(config: TrainConfig) -> dict[str, str]:
    """Return the inputs from other runs by id or digest: a file may change and keep its name."""
    inputs = {}
    if config.initial_model is not None:
        inputs["initial_model_id"] = read_model_files(config.initial_model).model_id
    match config.loss:
        case MetaLossConfig(labels=NeuralLabels(table=str(table))):
            inputs["level_labels_sha256"] = level_labels_sha256(table)
    return inputs


def _check_stage_one(config: TrainConfig, dataset: Dataset) -> None:
    """Raise ValueError if the initial model is not of stage I, or was trained on scans that are held out here.

    What its provenance does not record is not checked.
    """
    assert config.initial_model is not None
    provenance = read_model_files(config.initial_model).document["provenance"]
    learnt = complete_document(provenance["config"]) if "config" in provenance else {}
    recorded = learnt | {"loss": learnt.get("loss", {}).get("name"), "dataset_digest": provenance.get("dataset_digest")}
    expected = {
        "loss": AttentionLossConfig.__name__,
        "dataset_digest": dataset.manifest.digest,
        "validation_fraction": config.validation_fraction,
        "seed": config.seed,
    }
    found = {name: recorded[name] for name in expected if recorded.get(name) is not None}
    if differences := list_differences(found, {name: expected[name] for name in found}):
        raise ValueError(
            f"model to start from must be of stage I, of the same scans, got one with {'; '.join(differences)} "
            f"({config.initial_model}); train stage I with this --data, --seed and --validation-fraction, else scans "
            f"that it was trained on choose the epoch of stage II"
        )


def find_folds(samples: SampleTable, num_folds: int) -> np.ndarray:
    """Return the fold of each row of the training split, int64 from 1; see `shards.curation.folds`."""
    return assign_folds(samples.groups, (samples.labels_NK == PRESENT).any(axis=1), num_folds)


def _load_scans(dataset: Dataset, config: TrainConfig, left_out: Fold | None) -> SampleTable:
    samples = load_sample_table(dataset, TRAIN_SPLIT)
    if left_out is not None:
        samples = samples.take(np.flatnonzero(find_folds(samples, left_out.num_folds) != left_out.number))
    match config.loss:
        case AttentionLossConfig():  # "instance-level annotated data, which provides bounding box" (SXMNet, stage I)
            return samples.take(np.flatnonzero(samples.num_boxes_N))
        case MetaLossConfig(labels=NeuralLabels(table=None)):
            raise ValueError(
                "level labels must be given to train Meta Fusion with, got none; write them with `sixray label-levels` "
                "and name them with --level-labels"
            )
        case MetaLossConfig(labels=NeuralLabels(table=str(table))):
            return read_level_labels(
                table, samples, config.num_levels, dataset.manifest.digest, trim_margins=config.trim_margins
            )
    return samples


def _build_network(
    config: TrainConfig, model_config: ModelConfig, hardware: Hardware, *, is_resumed: bool
) -> nn.Module:
    """Return the network to train, with its first weights unless the run is resumed from a checkpoint."""
    torch.manual_seed(config.seed)
    pretrained = config.pretrained and config.initial_model is None and not is_resumed
    network = build_network(
        model_config, pretrained=pretrained, weights_file=config.backbone_weights if pretrained else None
    )
    if config.initial_model is not None and not is_resumed:
        start_from(network, model_config, config.initial_model)
    if isinstance(config.loss, AttentionLossConfig):
        freeze_all_but_attention(network)
    if hardware.device == "cuda" and hardware.num_devices > 1:
        network = convert_sync_batchnorm(network)  # over all ranks' scans, as in one process
    if config.frozen_stages:
        freeze_stages(network.backbone, config.frozen_stages)  # type: ignore[arg-type]
    return network


def _fit(module: TrainingModule, run_dir: RunDir, hardware: Hardware, callbacks: list[Callback]) -> None:
    logs_url = storage.join_url(run_dir.url, "logs")
    loggers = [
        CSVLogger(logs_url, name="csv"),
        TensorBoardLogger(logs_url, name="tensorboard", version=""),
    ]
    trainer = Trainer(
        accelerator=hardware.device,
        devices=hardware.num_devices,
        strategy=DEVICES_STRATEGY if hardware.num_devices > 1 else "auto",
        use_distributed_sampler=False,  # the feeds know their rank
        precision="bf16-mixed" if hardware.dtype == "bfloat16" else "32-true",
        max_epochs=module.config.max_epochs,
        accumulate_grad_batches=module.config.accumulate_batches,
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
        quiet_lightning()
        try:
            trainer.fit(module, ckpt_path=run_dir.last_url if run_dir.is_started else None, weights_only=True)
        except SIGTERMException as error:  # a SystemExit with code 0, as if the run were finished
            raise InterruptedError(f"training was stopped by SIGTERM ({run_dir.url})") from error
        except ProcessRaisedException as error:  # its text is the traceback of a rank
            if found := re.search(rf"^{DivergedError.__module__}\.{DivergedError.__name__}: (.*)$", str(error), re.M):
                raise DivergedError(found[1]) from error
            raise


def _model_config(config: TrainConfig, dataset: Dataset) -> ModelConfig:
    mean, std = pretrained_normalisation(config.backbone) if config.pretrained else (IMAGENET_MEAN, IMAGENET_STD)
    return ModelConfig(
        network=config.network,
        backbone=config.backbone,
        classes=dataset.manifest.scored_classes,
        num_levels=config.num_levels,
        input=InputConfig(size_px=config.image_size_px, mean=mean, std=std, trim_margins=config.trim_margins),
        fusion=config.fusion,
        attention=config.attention,
        complete_levels=config.complete_levels,
    )


def _provenance(
    module: TrainingModule, dataset: Dataset, keeper: CheckpointKeeper, inputs: dict[str, str]
) -> dict[str, Any]:
    positives_S = np.concatenate([module.positives_of_steps(epoch) for epoch in range(keeper.num_epochs)])
    return {
        "config": module.config.to_json(),
        **inputs,
        "dataset_digest": dataset.manifest.digest,
        "scan_checksums": sample_checksums(dataset, TRAIN_SPLIT),
        "epoch": keeper.result_epoch,
        "num_epochs": keeper.num_epochs,
        f"validation_{module.config.loss.rating}": keeper.best["rating"],
        "positives_per_step": {
            "mean": float(positives_S.mean()),
            "fraction_of_steps_without": float((positives_S == 0).mean()),
            "scans_per_step": module.num_scans_per_step,
        },
        **({"num_scans_by_level": module.num_scans_by_level} if module.num_scans_by_level else {}),
        "versions": installed_versions("torch", "timm"),
    }
