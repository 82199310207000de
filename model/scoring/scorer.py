"""Score one shard at a time: read, decode, run the network, find peaks; imports no Beam.

Reading, decoding and the network run in threads of their own, each prefetching a batch or two, so that the latency of
a disk or an object store is hidden. On a CPU decoder and network share the cores and keep them busy.

Shapes: B batch  K classes  L levels  C colour  H W pixels  N scans of a shard
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from model.artifacts.saved_model import LoadedModel, load_model
from model.hardware import Hardware, detect_hardware
from model.inputs.decoder import BatchDecoder, Decoded
from model.networks.config import ModelConfig
from model.networks.peaks import find_peaks
from model.scoring.engine_selection import EngineRequest
from model.scoring.engines import choose_engine
from model.scoring.prediction_tables import BatchScores, predictions_table, quarantine_table
from shards.format.dataset import Dataset
from shards.format.shard_reader import ReadScan, Refusal, ScanRow, read_rows, read_scans
from shards.predictions.parts import Engine
from shards.prefetch import iterate_in_background

Report = Callable[[int, int], None]
"""Called after every batch with the scans done and the bytes read."""


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

    def __init__(self, model: LoadedModel, hardware: Hardware, request: EngineRequest | None = None) -> None:
        """Prepare a model.

        Args:
            model: as loaded.
            hardware: the device.
            request: engine and dtype; None: the fastest.

        Raises:
            ValueError: the requested engine cannot run here.
        """
        self.config: ModelConfig = model.config
        self.model_id = model.model_id
        self.hardware = hardware
        network = model.network.eval()
        self.spec, self._compute = choose_engine(network, model.config, hardware, request or EngineRequest())

    def score(
        self, images_BCHW: Tensor, widths_px_B: Tensor, heights_px_B: Tensor, windows_B4: Tensor | None = None
    ) -> BatchScores:
        """Return the scores of normalised images (B, 3, H, W) of scans of the given sizes as stored.

        If margins were trimmed, `windows_B4` are the parts of the scans that the images show.
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
    """Scores shards one after the other; not thread-safe."""

    def __init__(self, network: ScoringNetwork, batch_size: int = 64) -> None:
        self._network = network
        self._batch_size = batch_size
        # ONNX Runtime takes its images channel by channel, PyTorch's fastest kernels pixel by pixel.
        channels_last = network.spec.engine != "onnxruntime"
        self._decoder = BatchDecoder(network.config.input, network.hardware, batch_size, channels_last=channels_last)

    @classmethod
    def load(cls, folder: str) -> "Scorer":
        """Return a scorer of the model in a folder, on this machine's device, with the fastest engine."""
        return cls(ScoringNetwork(load_model(folder), detect_hardware()))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the logits."""
        return self._network.config.classes

    def score_split(self, dataset: Dataset, split: str) -> pa.Table:
        """Return the predictions of the scans of a split; those that cannot be scored have no row."""
        scored = (
            self.score_shard(dataset.tar_url(shard), read_rows(dataset.samples_url(shard), shard.num_scans))
            for shard in dataset.shards(split)
        )
        return pa.concat_tables(shard.predictions for shard in scored)

    @property
    def engine(self) -> Engine:
        """The engine, in the form that parts record."""
        hardware, spec = self._network.hardware, self._network.spec
        decoder = f"dali-{hardware.decode_device}"
        return Engine(decoder, hardware.device, spec.dtype, self._batch_size, spec.engine)

    def score_shard(self, tar_url: str, rows: Sequence[ScanRow], report: Report | None = None) -> ShardScores:
        """Return the scores of the scans of a shard, and the reasons of those that cannot be scored.

        A scan that cannot be used leaves its place in the batch empty, so that the logits of the others do not change.

        Args:
            tar_url: of the shard.
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
        shard = ShardScores(
            predictions_table(scored, self._network.config.classes), quarantine_table(refused), num_read_bytes
        )
        assert shard.predictions.num_rows + shard.quarantine.num_rows == len(rows)
        return shard

    def _decode(self, batches: Iterator[list[ReadScan]]) -> Iterator[tuple[list[ReadScan], Decoded]]:
        for scans in batches:
            decoded = self._decoder.decode([scan.image for scan in scans])
            for place, words in decoded.errors.items():
                row = scans[place].row
                scans[place] = ReadScan(row, scans[place].image, Refusal("undecodable", words, row.sha256))
            yield scans, decoded


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
