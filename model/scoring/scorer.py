"""What does the model say of a shard? Read, decode, score and find peaks, one shard at a time; no Beam.

Reading, decoding and the network each run in a thread of their own, a batch or two ahead of the next, so that a slow
store or disk hides behind the network. On a CPU decoder and network share the cores, and neither leaves them idle.

Shapes: B batch  K classes  L levels  C colour  H W pixels  N scans of a shard
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from model.artifacts.saved_model import LoadedModel
from model.hardware import Hardware
from model.inputs.decoder import BatchDecoder, Decoded
from model.inputs.prefetch import iterate_in_background
from model.networks.config import ModelConfig
from model.networks.peaks import find_peaks
from model.scoring.engine_selection import EngineWish
from model.scoring.engines import choose_engine
from shards.format.schemas import PEAK_TYPE, QUARANTINE_SCHEMA, predictions_schema
from shards.format.shard_reader import ReadScan, Refusal, ScanRow, read_scans
from shards.predictions.parts import Engine

Report = Callable[[int, int], None]
"""Told of every batch: scans done, bytes read."""


class BatchScores(NamedTuple):
    """What the network says of a batch, on the CPU."""

    logits_BK: np.ndarray
    """float32, fused."""
    level_logits_LBK: np.ndarray
    peaks_B4K: np.ndarray
    """float32: x and y in pixels of the scan as stored, level, value."""


@dataclass(frozen=True, slots=True)
class ShardScores:
    """All rows of a shard, each in one of two tables."""

    predictions: pa.Table
    """Of `predictions_schema`, in tar order."""
    quarantine: pa.Table
    """Of `QUARANTINE_SCHEMA`, in tar order."""
    num_read_bytes: int


class ScoringNetwork:
    """A model on its device, ready for inference; may be shared between scorers."""

    def __init__(self, model: LoadedModel, hardware: Hardware, wish: EngineWish | None = None) -> None:
        """Prepare a model.

        Args:
            model: as loaded.
            hardware: the device.
            wish: how to compute; None as an empty one.

        Raises:
            ValueError: what was wished for cannot run here.
        """
        self.config: ModelConfig = model.config
        self.model_id = model.model_id
        self.hardware = hardware
        network = model.network.eval()
        self.way, self._compute = choose_engine(network, model.config, hardware, wish or EngineWish())

    def score(
        self, images_BCHW: Tensor, widths_px_B: Tensor, heights_px_B: Tensor, windows_B4: Tensor | None = None
    ) -> BatchScores:
        """Return the scores of normalised images (B, 3, H, W) of scans of the given sizes as stored.

        Where margins were trimmed, the windows (B, 4) say what of the scans the images are.
        """
        output = self._compute(images_BCHW)
        with torch.inference_mode():
            peaks = find_peaks(output.heatmaps, widths_px_B, heights_px_B, windows_B4)
            peaks_B4K = torch.stack([peaks.x_px_BK, peaks.y_px_BK, peaks.level_BK.float(), peaks.value_BK], dim=1)
            return BatchScores(
                output.logits_BK.float().cpu().numpy(),
                output.level_logits_LBK.float().cpu().numpy(),
                peaks_B4K.float().cpu().numpy(),
            )


class Scorer:
    """Scores shards, one after the other; a thread has its own."""

    def __init__(self, network: ScoringNetwork, batch_size: int = 64) -> None:
        self._network = network
        self._batch_size = batch_size
        # ONNX Runtime takes its images channel by channel, PyTorch's fastest kernels pixel by pixel.
        channels_last = network.way.engine != "onnxruntime"
        self._decoder = BatchDecoder(network.config, network.hardware, batch_size, channels_last=channels_last)

    @property
    def engine(self) -> Engine:
        """What computes the scores, as parts record it."""
        hardware, way = self._network.hardware, self._network.way
        decoder = f"dali-{hardware.decode_device}"
        return Engine(decoder, hardware.device, way.dtype, self._batch_size, way.engine)

    def score_shard(self, tar_url: str, rows: Sequence[ScanRow], report: Report | None = None) -> ShardScores:
        """Return the scores of all scans of a shard that can be scored, and why the others cannot.

        A scan that cannot be used leaves its place in the batch empty, so the others have the logits that they would
        have beside a sound one.

        Args:
            tar_url: where the shard is.
            rows: of the shard, in tar order.
            report: called after every batch.

        Raises:
            OSError: the shard is there but cannot be read now.
            RuntimeError: the decoder or the device fails on sound images.
        """
        scored: list[tuple[list[ScanRow], BatchScores]] = []
        refused: list[tuple[ScanRow, Refusal]] = []
        num_read_bytes = 0
        for scans, decoded in iterate_in_background(self._decode(read_scans(tar_url, rows, self._batch_size))):
            sizes_B2 = torch.tensor([(scan.row.width_px, scan.row.height_px) for scan in scans])
            widths_px_B, heights_px_B = sizes_B2.unbind(1)
            scores = self._network.score(decoded.images_BCHW, widths_px_B, heights_px_B, decoded.windows_B4)
            kept = _refuse_non_finite(scans, scores)
            good_B = np.array([scan.refusal is None for scan in kept])
            refused += [(scan.row, scan.refusal) for scan in kept if scan.refusal is not None]
            scored.append(([scan.row for scan in kept if scan.refusal is None], _choose(scores, good_B)))
            batch_bytes = sum(len(scan.image) for scan in scans if scan.image is not None)
            num_read_bytes += batch_bytes
            if report is not None:
                report(len(scans), batch_bytes)
        shard = ShardScores(self._predictions_table(scored), _quarantine_table(refused), num_read_bytes)
        # Nothing may be lost or said twice: the sum is checked before anything is written.
        assert shard.predictions.num_rows + shard.quarantine.num_rows == len(rows)
        return shard

    def _decode(self, batches: Iterator[list[ReadScan]]) -> Iterator[tuple[list[ReadScan], Decoded]]:
        for scans in batches:
            decoded = self._decoder.decode([scan.image for scan in scans])
            for place, words in decoded.errors.items():
                row = scans[place].row
                scans[place] = ReadScan(row, scans[place].image, Refusal("undecodable", words, row.sha256))
            yield scans, decoded

    def _predictions_table(self, scored: Sequence[tuple[list[ScanRow], BatchScores]]) -> pa.Table:
        config = self._network.config
        schema = predictions_schema(config.classes)
        rows = [row for batch, _ in scored for row in batch]
        if not rows:
            return schema.empty_table()
        logits_NK, level_logits_LNK, peaks_N4K = (
            np.concatenate(arrays, axis=axis)
            for arrays, axis in zip(zip(*(scores for _, scores in scored), strict=True), (0, 1, 0), strict=True)
        )
        columns = {
            "key": pa.array([row.key for row in rows], pa.string()),
            "split": pa.array([row.split for row in rows], pa.string()),
            "logits": _struct_array(schema.field("logits").type, logits_NK),
            "level_logits": _level_array(schema.field("level_logits").type, level_logits_LNK),
            "peaks": _peak_array(schema.field("peaks").type, peaks_N4K),
        }
        return pa.table(columns, schema=schema)


def _refuse_non_finite(scans: Sequence[ReadScan], scores: BatchScores) -> list[ReadScan]:
    finite_B = np.isfinite(scores.logits_BK).all(1) & np.isfinite(scores.level_logits_LBK).all((0, 2))
    finite_B &= np.isfinite(scores.peaks_B4K).all((1, 2))
    reason = Refusal("not_finite", "the network gave a logit that is not a finite number", None)
    return [
        scan if finite or scan.refusal else ReadScan(scan.row, None, reason._replace(sha256=scan.row.sha256))
        for scan, finite in zip(scans, finite_B, strict=True)
    ]


def _choose(scores: BatchScores, good_B: np.ndarray) -> BatchScores:
    return BatchScores(scores.logits_BK[good_B], scores.level_logits_LBK[:, good_B], scores.peaks_B4K[good_B])


def _struct_array(kind: pa.StructType, values_NK: np.ndarray) -> pa.StructArray:
    columns = [pa.array(np.ascontiguousarray(values_N), pa.float32()) for values_N in values_NK.T]
    return pa.StructArray.from_arrays(columns, fields=list(kind))


def _level_array(kind: pa.ListType, values_LNK: np.ndarray) -> pa.ListArray:
    num_levels, num_scans, num_classes = values_LNK.shape
    flat = _struct_array(kind.value_type, values_LNK.transpose(1, 0, 2).reshape(-1, num_classes))
    offsets = pa.array(np.arange(num_scans + 1, dtype=np.int32) * num_levels)
    return pa.ListArray.from_arrays(offsets, flat, type=kind)


def _peak_array(kind: pa.StructType, values_N4K: np.ndarray) -> pa.StructArray:
    peaks = []
    for values_N4 in values_N4K.transpose(2, 0, 1):
        columns = [
            pa.array(np.ascontiguousarray(values_N), pa.float32()).cast(field.type)
            for values_N, field in zip(values_N4.T, PEAK_TYPE, strict=True)
        ]
        peaks.append(pa.StructArray.from_arrays(columns, fields=list(PEAK_TYPE)))
    return pa.StructArray.from_arrays(peaks, fields=list(kind))


def _quarantine_table(refused: Sequence[tuple[ScanRow, Refusal]]) -> pa.Table:
    rows = [
        {"source_uri": row.source_uri, "key": row.key, "stage": "score"} | refusal._asdict() for row, refusal in refused
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)
