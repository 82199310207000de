"""Score shards: read, decode, run the network, collect; imports no Beam.

Each stage works ahead of the one after it, across the borders of shards too: while the network computes a batch, the
next ones are decoded, the next shard's first bytes are read, and the scores of the batch before are collected. On a CPU
decoder and network share the cores and keep them busy; on a GPU the slower of the two sets the pace.

Shapes: B batch  K classes  L levels  C colour  H W pixels  N scans of a shard
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from model.artifacts.saved_model import load_model
from model.hardware import detect_hardware
from model.inputs.decoded_batch import Decoded
from model.inputs.decoder import BatchDecoder, use_on_current_stream
from model.scoring.prediction_tables import BatchScores, predictions_table, quarantine_table
from model.scoring.scoring_network import ScoringNetwork, StartedBatch
from shards.format.dataset import Dataset
from shards.format.manifest import ShardInfo
from shards.format.parquet import DETECTIONS_SCHEMA
from shards.format.shard_reader import Buffers, ReadScan, Refusal, ScanRow, read_rows, read_scans
from shards.predictions.detections import Detections
from shards.predictions.parts import Engine
from shards.prefetch import iterate_in_background, map_prefetched

Report = Callable[[int, int], None]
"""Called after every batch with the scans done and the bytes read."""

NUM_READERS = {"cuda": 4, "cpu": 2}
"""Threads that read and check batches of a local shard; a scan's sha256 alone takes 50 microseconds or more."""
_BATCHES_AHEAD = 2
"""Decoded before the network asks for them, beside those that the decoder has under way."""


class ShardFiles(NamedTuple):
    """Where a shard is."""

    tar_url: str
    samples_url: str
    num_scans: int

    @classmethod
    def of(cls, dataset: Dataset, shard: ShardInfo) -> "ShardFiles":
        """Return those of a dataset's shard."""
        return cls(dataset.tar_url(shard), dataset.samples_url(shard), shard.num_scans)


@dataclass(frozen=True, slots=True)
class ShardScores:
    """All rows of a shard, each in one of two tables."""

    predictions: pa.Table
    """Of `predictions_schema` and `IMAGE_FIELD`, in tar order."""
    quarantine: pa.Table
    """Of `QUARANTINE_SCHEMA`, in tar order."""
    num_read_bytes: int
    detections: pa.Table | None = None
    """Of `DETECTIONS_SCHEMA`; None if the network gives no boxes."""


@dataclass(frozen=True, slots=True)
class UnreadShard:
    """A shard that cannot be read now; a retry may help."""

    error: OSError | ValueError


class _Batch(NamedTuple):
    """Neighbouring scans of a shard, on their way through the stages."""

    scans: list[ReadScan]
    num_bytes: int
    is_last: bool
    """Of its shard."""
    error: OSError | ValueError | None = None
    """Why the shard cannot be read further; the batch is its last one and has no scans."""
    decoded: Decoded | None = None
    started: StartedBatch | None = None


class Scorer:
    """Scores shards one after the other; not thread-safe."""

    def __init__(
        self, network: ScoringNetwork, batch_size: int | None = None, decoder: BatchDecoder | None = None
    ) -> None:
        """Make a scorer.

        Args:
            network: on its device.
            batch_size: scans that are read and decoded at once; None: as many as go through the network.
            decoder: of batches of that size; None: one for the network's device.
        """
        self._network = network
        self._batch_size = batch_size or network.requested_batch_size
        self._num_readers = NUM_READERS[network.hardware.device]
        self._buffers = Buffers()
        # ONNX Runtime takes its images channel by channel, PyTorch's fastest kernels pixel by pixel.
        channels_last = network.spec.engine != "onnxruntime"
        self._decoder = decoder or BatchDecoder(
            network.config.input, network.hardware, self._batch_size, channels_last=channels_last
        )

    @classmethod
    def load(cls, folder: str) -> "Scorer":
        """Return a scorer of the model in a folder, on this machine's device, with the fastest engine."""
        return cls(ScoringNetwork(load_model(folder), detect_hardware()))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the logits."""
        return self._network.config.classes

    @property
    def box_share(self) -> float | None:
        """Share of the peak of a map, which its boxes reach; None: the scorer finds no boxes."""
        return self._network.box_share

    @property
    def engine(self) -> Engine:
        """The engine, in the form that parts record."""
        return self._network.describe(self._batch_size)

    def score_split(self, dataset: Dataset, split: str) -> pa.Table:
        """Return the predictions of the scans of a split; those that cannot be scored have no row.

        Raises:
            OSError or ValueError: a shard cannot be read.
        """
        shards = [ShardFiles.of(dataset, shard) for shard in dataset.shards(split)]
        return pa.concat_tables(_raise_unread(found).predictions for found in self.score_shards(shards))

    def score_shard(self, shard: ShardFiles, report: Report | None = None) -> ShardScores:
        """Return the scores of one shard; `score_shards` is faster for several.

        Raises:
            OSError or ValueError: the shard cannot be read.
        """
        (found,) = self.score_shards([shard], report)
        return _raise_unread(found)

    def score_shards(
        self, shards: Iterable[ShardFiles], report: Report | None = None
    ) -> Generator[ShardScores | UnreadShard, None, None]:
        """Yield the scores of each shard, and the reasons of the scans that cannot be scored.

        A scan that cannot be used leaves its place in the batch empty, so that the logits of the others do not change.

        Args:
            shards: taken one ahead.
            report: called after every batch, from another thread.

        Raises:
            OSError: memory ended.
            RuntimeError: the decoder or the device fails on sound images.
        """
        opened = map_prefetched(self._open, shards, num_threads=1, depth=1)
        read = (batch for batches in opened for batch in batches)
        decoded = iterate_in_background(self._decode(read), _BATCHES_AHEAD)
        started = (self._start(batch) for batch in decoded)
        collect = _Collector(self.classes, report, has_boxes=self._network.box_share is not None)
        with closing(map_prefetched(collect, started, num_threads=1, depth=1)) as collected:
            yield from (found for found in collected if found is not None)

    def _open(self, shard: ShardFiles) -> Iterator[_Batch]:
        """Return the batches of a shard; the first is read when this returns, and some more are being read."""
        batches = self._read(shard)
        return chain([next(batches)], batches)

    def _read(self, shard: ShardFiles) -> Iterator[_Batch]:
        try:
            rows = read_rows(shard.samples_url, shard.num_scans)
            num_left = len(rows)
            for scans in read_scans(
                shard.tar_url, rows, self._batch_size, num_threads=self._num_readers, buffers=self._buffers
            ):
                num_left -= len(scans)
                num_bytes = sum(len(scan.image) for scan in scans if scan.image is not None)
                yield _Batch(scans, num_bytes, is_last=num_left == 0)
            if not rows:
                yield _Batch([], 0, is_last=True)
        except (OSError, ValueError) as error:
            yield _Batch([], 0, is_last=True, error=error)

    def _decode(self, batches: Iterable[_Batch]) -> Iterator[_Batch]:
        encoded = ((batch, [scan.image for scan in batch.scans], None) for batch in batches)
        for batch, decoded in self._decoder.decode_ahead(encoded):
            scans = [ReadScan(row, None, refusal) for row, _, refusal in batch.scans]  # lets the bytes go
            for place, words in decoded.errors.items():
                row = scans[place].row
                scans[place] = ReadScan(row, None, Refusal("undecodable", words, row.sha256))
            yield batch._replace(scans=scans, decoded=decoded)

    def _start(self, batch: _Batch) -> _Batch:
        if batch.decoded is None or not batch.scans:
            return batch
        images_BCHW, _, windows_B4 = batch.decoded
        sizes_px_B2 = np.array([(scan.row.width_px, scan.row.height_px) for scan in batch.scans])
        started = self._network.start(use_on_current_stream(images_BCHW), sizes_px_B2, windows_B4.numpy())
        return batch._replace(decoded=None, started=started)


class _Collector:
    """Gathers the batches of a shard, in order, and makes its tables when the last one is there."""

    def __init__(self, classes: Sequence[str], report: Report | None, has_boxes: bool) -> None:
        self._classes, self._report, self._has_boxes = tuple(classes), report, has_boxes
        self._scored: list[tuple[list[ScanRow], BatchScores]] = []
        self._detections: list[pa.Table] = []
        self._refused: list[tuple[ScanRow, Refusal]] = []
        self._num_bytes = 0

    def __call__(self, batch: _Batch) -> ShardScores | UnreadShard | None:
        """Wait for the scores of a batch; return those of its shard if it is the last one."""
        if batch.started is not None:
            self._add(batch.scans, batch.started.result())
        self._num_bytes += batch.num_bytes
        if self._report is not None:
            self._report(len(batch.scans), batch.num_bytes)
        return self._finish(batch.error) if batch.is_last else None

    def _add(self, scans: Sequence[ReadScan], scores: BatchScores) -> None:
        scans = _refuse_non_finite(scans, scores)
        good_B = np.array([scan.refusal is None for scan in scans])
        rows = [scan.row for scan in scans if scan.refusal is None]
        self._scored.append((rows, _choose(scores, good_B)))
        if scores.boxes is not None and rows:
            keys = pa.array([row.key for row in rows], pa.string())
            found = Detections(self._classes, *scores.boxes)
            self._detections.append(found.make_table(np.flatnonzero(good_B), keys, rows[0].split))
        self._refused += [(scan.row, scan.refusal) for scan in scans if scan.refusal is not None]

    def _finish(self, error: OSError | ValueError | None) -> ShardScores | UnreadShard:
        found: ShardScores | UnreadShard
        if error is not None:
            found = UnreadShard(error)
        else:
            tables = predictions_table(self._scored, self._classes), quarantine_table(self._refused)
            boxes = [DETECTIONS_SCHEMA.empty_table(), *self._detections]
            detections = pa.concat_tables(boxes).combine_chunks() if self._has_boxes else None
            found = ShardScores(*tables, self._num_bytes, detections)
        self._scored, self._refused, self._detections, self._num_bytes = [], [], [], 0
        return found


def _raise_unread(found: ShardScores | UnreadShard) -> ShardScores:
    if isinstance(found, UnreadShard):
        raise found.error
    return found


def _refuse_non_finite(scans: Sequence[ReadScan], scores: BatchScores) -> list[ReadScan]:
    finite_B = np.isfinite(scores.logits_BK).all(1) & np.isfinite(scores.level_logits_LBK).all((0, 2))
    finite_B &= np.isfinite(scores.peaks_B4K).all((1, 2))
    reason = Refusal("not_finite", "the network gave a logit that is not a finite number", None)
    return [
        scan if finite or scan.refusal else ReadScan(scan.row, None, reason._replace(sha256=scan.row.sha256))
        for scan, finite in zip(scans, finite_B, strict=True)
    ]


def _choose(scores: BatchScores, good_B: np.ndarray) -> BatchScores:
    logits_BK, levels_LBK, peaks_B4K, image_B2, _ = scores
    return BatchScores(logits_BK[good_B], levels_LBK[:, good_B], peaks_B4K[good_B], image_B2[good_B])
