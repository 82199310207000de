"""Quantize a model to int8, if held-out scans show no loss.

Every step of `EXACT` is quantized on training scans and rated on held-out ones beside the model itself, in one pass. Of
those that keep the mean average precision within 0.005 and that of each class within 0.01, the fastest is written. Held
out is the split `val`, or without one the scans that the model's training held out; the test split is never read.

Shapes: N held-out scans  K classes  R bootstrap rounds  B batch  C colour  H W pixels
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.artifacts.export import trace_onnx
from model.artifacts.onnx_network import OnnxNetwork
from model.artifacts.quantize import EXACT, quantize_onnx
from model.artifacts.saved_model import LoadedModel, is_model, load_model, save_quantized_model
from model.hardware import Hardware, detect_processor
from model.inputs.feeds import FeedConfig, ValidationFeed
from model.inputs.sample_table import SampleTable, hold_out, load_sample_table
from model.metrics import arrays
from model.metrics.uncertainty import bootstrap
from model.metrics.uncertainty.intervals import MIN_UNITS
from model.networks.registry import count_parameters
from model.scoring.batchnorm_folding import fold_batch_norms
from model.scoring.engines import PART_IMAGES, measure_engines
from pipelines.runtime import command_line
from pipelines.runtime.flags import make_config
from shards.format.dataset import Dataset, open_dataset

MAX_MEAN_LOSS, MAX_CLASS_LOSS = 0.005, 0.01
"""Of average precision."""
FLOAT32 = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeConfig:
    """A model to quantize, and where the result goes."""

    model: str
    """Folder of the model: a path or an fsspec URL."""
    data: str
    """The dataset that it was trained on, or another one with its classes."""
    output: str
    """Folder of the quantized model."""
    calibration_scans: int = 256
    """Training scans that show the range of every activation."""

    def __post_init__(self) -> None:
        if self.calibration_scans < 1:
            raise ValueError(f"calibration_scans must be >= 1, got {self.calibration_scans}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Average precision of a quantized network less that of the model, on the same held-out scans."""

    mean: float
    low: float
    """With `high`: the middle 95 % of a paired bootstrap over scans (byte-equal ones together) of the mean."""
    high: float
    by_class: dict[str, float]
    """Classes with at least 5 positives; the mean is over them too."""

    def describe_excess(self) -> str:
        """Return in words what exceeds the limits; empty if nothing does."""
        worst = min(self.by_class, key=self.by_class.__getitem__)
        if self.mean < -MAX_MEAN_LOSS:
            return f"mean average precision changes by {self.mean:+.4f}, at most -{MAX_MEAN_LOSS} is allowed"
        if self.by_class[worst] < -MAX_CLASS_LOSS:
            return f"{worst} changes by {self.by_class[worst]:+.4f}, at most -{MAX_CLASS_LOSS} is allowed"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A way to quantize, rated."""

    exact: str
    file: bytes
    loss: Loss
    speedup: float
    """Times the rate of the model in float32, both in ONNX Runtime on this machine."""

    def __str__(self) -> str:
        loss = self.loss
        return (
            f"float32 for {self.exact}: mean average precision {loss.mean:+.4f} (95 % from {loss.low:+.4f} to "
            f"{loss.high:+.4f}), {self.speedup:.2f} times the rate"
        )


def quantize_model(config: QuantizeConfig) -> tuple[str, list[Trial]]:
    """Write a quantized model; return its id, empty if none was written, and all trials, the fastest first.

    Raises:
        ValueError: the model or dataset cannot be used, the output is taken, or held-out scans are too few to tell.
    """
    if is_model(config.output):
        raise ValueError(f"output must be a folder without a model, got {config.output!r}, which has one")
    model, dataset = load_model(config.model), open_dataset(config.data)
    if model.quantization is not None:
        raise ValueError(f"model must have weights in float32, got a quantized one ({config.model})")
    if dataset.manifest.scored_classes != model.config.classes:
        raise ValueError(
            f"data must have the model's classes {list(model.config.classes)}, got "
            f"{list(dataset.manifest.scored_classes)} ({config.data}); "
            f"`sixray reshard --classes` selects and orders classes"
        )
    training, held_out, held_out_of = _divide(dataset, model)
    chosen = np.random.default_rng(0).permutation(len(training))[: config.calibration_scans]
    trials = _try_all(model, training.take(np.sort(chosen)), held_out)
    good = [trial for trial in trials if not trial.loss.describe_excess()]
    if not good:
        return "", trials
    quantization = {
        "source_model_id": model.model_id,
        "num_parameters": count_parameters(model.network),
        "float32_for": good[0].exact,
        "dataset_digest": dataset.manifest.digest,
        "num_calibration_scans": len(chosen),
        "held_out": held_out_of,
        "num_held_out_scans": len(held_out),
        "mean_average_precision_change": {
            "value": good[0].loss.mean,
            "low": good[0].loss.low,
            "high": good[0].loss.high,
        },
        "average_precision_changes": good[0].loss.by_class,
    }
    return save_quantized_model(config.output, good[0].file, model.config, model.provenance, quantization), trials


def _divide(dataset: Dataset, model: LoadedModel) -> tuple[SampleTable, SampleTable, str]:
    """Return scans to calibrate with, scans to rate with, and what the second are."""
    training = load_sample_table(dataset, "train")
    if "val" in dataset.manifest.splits:
        held_out, words = load_sample_table(dataset, "val"), "split val"
    else:
        learnt = model.provenance.get("config", {})
        fraction, seed = learnt.get("validation_fraction", 0.1), learnt.get("seed", 0)
        training, held_out = hold_out(training, fraction, seed)
        words = f"{fraction} of split train, as in training with seed {seed}"
    enough_K = (held_out.labels_NK == 1).sum(axis=0) >= MIN_UNITS
    if not enough_K.any() or len(training) == 0:
        raise ValueError(
            f"held-out scans must hold a class at least {MIN_UNITS} times to show a loss, and scans must be left to "
            f"calibrate with, got {len(held_out)} held out ({words}) and {len(training)} left ({dataset.url}); "
            f"give a larger dataset, or one with a split val"
        )
    return training, held_out, words


def _try_all(model: LoadedModel, calibration: SampleTable, held_out: SampleTable) -> list[Trial]:
    hardware, config = detect_processor(), model.config
    original = trace_onnx(fold_batch_norms(model.network, config.input.size_px), config)
    batches = [images_BCHW.numpy() for images_BCHW, _ in _decode(calibration, model, hardware)]
    files = {exact: quantize_onnx(original, batches, exact) for exact in EXACT}
    del batches
    networks = {
        name: OnnxNetwork(file, config, hardware.num_cores) for name, file in {FLOAT32: original, **files}.items()
    }
    decoded_N, logits = _score(networks, model, held_out, hardware)
    rated = held_out.take(decoded_N)
    rates = measure_engines(networks, config.input.size_px)
    trials = [
        Trial(
            exact=exact,
            file=file,
            loss=rate_loss(logits[exact], logits[FLOAT32], rated),
            speedup=rates[exact] / rates[FLOAT32],
        )
        for exact, file in files.items()
    ]
    return sorted(trials, key=lambda trial: -trial.speedup)


def _decode(samples: SampleTable, model: LoadedModel, hardware: Hardware) -> Any:
    """Yield images (B, 3, H, W) as they are scored, and their rows; those that cannot be decoded are left out."""
    feed_config = FeedConfig(
        input=model.config.input, resize_px=model.config.input.size_px, batch_size=PART_IMAGES, hardware=hardware
    )
    feed = ValidationFeed(samples, feed_config)
    for batch in feed:
        is_good_B = torch.tensor([row not in feed.bad_rows for row in batch.rows_B.tolist()])
        yield batch.images_BCHW[is_good_B].contiguous(), batch.rows_B[is_good_B].numpy()


def _score(
    networks: dict[str, OnnxNetwork], model: LoadedModel, samples: SampleTable, hardware: Hardware
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float32]]]:
    """Return the rows that could be decoded, and the logits (N, K) of each network."""
    rows: list[npt.NDArray[np.int64]] = []
    logits: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in networks}
    for images_BCHW, rows_B in _decode(samples, model, hardware):
        rows.append(rows_B)
        for name, network in networks.items():
            logits[name].append(network(images_BCHW).logits_BK.numpy())
    return np.concatenate(rows), {name: np.concatenate(parts) for name, parts in logits.items()}


def rate_loss(int8_NK: npt.NDArray[np.float32], float32_NK: npt.NDArray[np.float32], samples: SampleTable) -> Loss:
    """Return the loss of average precision from one set of logits to another."""
    classes_K = np.flatnonzero((samples.labels_NK == 1).sum(axis=0) >= MIN_UNITS)
    labels_NK = samples.labels_NK[:, classes_K]
    groups_N = np.unique(samples.groups.to_numpy(zero_copy_only=False), return_inverse=True)[1]
    values, rounds = [], []
    for logits_NK in (int8_NK[:, classes_K], float32_NK[:, classes_K]):
        values.append(arrays.average_precision(logits_NK, labels_NK))
        ranked = [bootstrap.rank_groups(logits_NK[:, k], labels_NK[:, k], groups_N) for k in range(len(classes_K))]
        found = bootstrap.resample(ranked, int(groups_N.max()) + 1, ())
        rounds.append(bootstrap.mean_rounds([of.average_precision_R for of in found]))
    interval = bootstrap.percentile_interval(rounds[0] - rounds[1])
    assert interval is not None
    changes_K = (values[0] - values[1]).tolist()
    by_class = {samples.classes[k]: change for k, change in zip(classes_K, changes_K, strict=True)}
    return Loss(mean=float(np.mean(changes_K)), low=interval.low, high=interval.high, by_class=by_class)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(QuantizeConfig, make_parser().parse_args(argv))
    model_id, trials = quantize_model(config)
    for trial in trials:
        excess = trial.loss.describe_excess()
        print(f"{trial}{f': refused, {excess}' if excess else ''}")
    if not model_id:
        print("no model was written: each way to quantize loses too much on held-out scans", file=sys.stderr)
        return command_line.FINDINGS
    print(f"{model_id}: {config.output}")
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "quantize",
        QuantizeConfig,
        "Quantize a model to int8 for processors. The result is a model of its own; it is refused if held-out scans "
        "show that it loses average precision.",
    )


if __name__ == "__main__":
    sys.exit(main())
