"""Feed a network with batches of decoded scans, in seeded, resumable epochs.

Shapes: B batch  K classes  N samples  E entries of an epoch  H W pixels  C colour
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from model.inputs.augment import crop_windows, epoch_augmentations, is_mirrored
from model.inputs.batch import Batch, Boxes
from model.inputs.crop_geometry import areas_in, read_windows, see_boxes, whole_windows
from model.inputs.dali_graphs import scoring_graph, training_graph
from model.inputs.sample_table import SampleTable
from model.inputs.sampling import epoch_entries, epoch_order, num_batches, rank_batches
from shards.prefetch import iterate_in_background, map_prefetched

_log = logging.getLogger(__name__)
_READ_THREADS = 8
_READ_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """What a feed makes of an image."""

    batch_size: int
    """Of one rank."""
    crop_px: int
    """What the network sees."""
    resize_px: int
    """What a scan is squashed to before a random crop is taken from it."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    decode_device: str
    num_threads: int
    device_id: int | None = None
    """Of the GPU; None: no GPU."""
    seed: int = 0
    positive_repeats: int = 1
    """How often a scan with any positive label comes in an epoch of training; 1 is the paper's plain sampling."""
    trim_margins: bool = False
    """Cut white margins off before the squash."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}")
        if self.crop_px > self.resize_px:
            raise ValueError(f"crop_px must be <= resize_px {self.resize_px}, got {self.crop_px}")
        if self.positive_repeats < 1:
            raise ValueError(f"positive_repeats must be >= 1, got {self.positive_repeats}")


class TrainingFeed:
    """Batches of shuffled, augmented scans; iterating gives the rest of the current epoch, then the next one.

    `state_dict` counts the batches that were handed out, not those read ahead, so that a run which is stopped after
    any step goes on with the next batch it would have taken.
    """

    def __init__(self, samples: SampleTable, config: FeedConfig, *, rank: int = 0, world_size: int = 1) -> None:
        if len(samples) == 0:
            raise ValueError("samples must be at least 1 scan to train on, got 0; see the splits in `sixray info`")
        self.samples = samples
        self.config = config
        self._entries_E = epoch_entries(samples.labels_NK, config.positive_repeats)
        self._place = (rank, world_size)
        self._epoch, self._next_batch = 0, 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same on every rank."""
        return num_batches(len(self._entries_E), self.config.batch_size, self._place[1])

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._next_batch
        order_E = epoch_order(len(self._entries_E), self.config.seed, epoch)
        batches = rank_batches(order_E, self.config.batch_size, *self._place)
        augmentations_E3 = epoch_augmentations(len(self._entries_E), self.config.seed, epoch)
        decoder = _Decoder(self.samples, self.config, self._entries_E, augmentations_E3)
        for number, batch in enumerate(iterate_in_background(decoder.decode(batches[first:])), start=first + 1):
            self._epoch, self._next_batch = (epoch, number) if number < len(batches) else (epoch + 1, 0)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the place of the next batch."""
        return {"epoch": self._epoch, "next_batch": self._next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at a place that `state_dict` gave, with the same samples, config and world size."""
        self._epoch, self._next_batch = state["epoch"], state["next_batch"]


class ValidationFeed:
    """Batches of held-out scans in their order, seen as scoring sees them: whole, squashed, not augmented."""

    def __init__(self, samples: SampleTable, config: FeedConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.samples = samples
        self.config = config
        self._place = (rank, world_size)

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return num_batches(len(self.samples), self.config.batch_size, self._place[1])

    def __iter__(self) -> Iterator[Batch]:
        batches = rank_batches(np.arange(len(self.samples)), self.config.batch_size, *self._place)
        decoder = _Decoder(self.samples, self.config, np.arange(len(self.samples)), None)
        return iterate_in_background(decoder.decode(batches))


class _Decoder:
    """Reads and decodes batches of rows: with augmentations the training graph, without them the scoring graph."""

    def __init__(
        self, samples: SampleTable, config: FeedConfig, entries_E: np.ndarray, augmentations_E3: np.ndarray | None
    ) -> None:
        self._samples = samples
        self._config = config
        self._entries_E = entries_E
        self._augmentations_E3 = augmentations_E3

    def decode(self, batches: Sequence[np.ndarray]) -> Generator[Batch, None, None]:
        """Yield the batches of entries; a negative one, -1 - entry, stands for padding."""
        pipeline = self._build(self._config.batch_size)
        entries = [np.where(coded_B < 0, -1 - coded_B, coded_B) for coded_B in batches]
        rows = [self._entries_E[entries_B] for entries_B in entries]
        with closing(read_ahead(self._samples, rows)) as images:
            for coded_B, entries_B, rows_B, encoded in zip(batches, entries, rows, images, strict=True):
                augmentations_B3 = None if self._augmentations_E3 is None else self._augmentations_E3[entries_B]
                try:
                    images_BCHW, windows_B4 = _run(pipeline, encoded, augmentations_B3)
                    is_bad_B = np.zeros(len(rows_B), dtype=bool)
                except RuntimeError:
                    is_bad_B = self._find_bad(rows_B, encoded)
                    pipeline = self._build(self._config.batch_size)  # one bad image ends a pipeline for good
                    images_BCHW, windows_B4 = _run(pipeline, _substitute(encoded, is_bad_B), augmentations_B3)
                is_void_B = (coded_B < 0) | is_bad_B
                labels_BK = self._samples.labels_NK[rows_B].copy()
                labels_BK[is_void_B] = np.nan
                levels_B = np.where(is_void_B, 0, self._samples.levels_N[rows_B]).astype(np.int64)
                yield Batch(
                    images_BCHW,
                    torch.from_numpy(labels_BK),
                    torch.from_numpy(rows_B),
                    self._see_boxes(rows_B, is_void_B, windows_B4, augmentations_B3),
                    torch.from_numpy(levels_B),
                )

    def _see_boxes(
        self, rows_B: np.ndarray, is_void_B: np.ndarray, windows_B4: np.ndarray, augmentations_B3: np.ndarray | None
    ) -> Boxes:
        edges_M4, scans_M = self._samples.boxes_of(rows_B)
        kept_M = ~is_void_B[scans_M]
        edges_M4, scans_M = edges_M4[kept_M], scans_M[kept_M]
        areas_M = areas_in(edges_M4, windows_B4[scans_M])
        if augmentations_B3 is not None:
            windows_B4 = crop_windows(windows_B4, augmentations_B3, self._config.resize_px, self._config.crop_px)
        seen_M4 = see_boxes(edges_M4, windows_B4[scans_M])
        return Boxes(*(torch.from_numpy(array) for array in (seen_M4, areas_M, scans_M)))

    def _build(self, batch_size: int) -> Any:
        config = self._config
        common = {
            "mean": config.mean,
            "std": config.std,
            "decode_device": config.decode_device,
            "trim_margins": config.trim_margins,
            "batch_size": batch_size,
            "num_threads": config.num_threads,
            "device_id": config.device_id,
            "prefetch_queue_depth": 1,  # `iterate_in_background` prefetches reading and decoding together
        }
        if self._augmentations_E3 is None:
            return scoring_graph(image_size_px=config.crop_px, **common)
        return training_graph(resize_px=config.resize_px, crop_px=config.crop_px, **common)

    def _find_bad(self, rows_B: np.ndarray, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """Return which images DALI cannot decode, each tried alone; raise where none is to blame, or all are."""
        errors: dict[int, RuntimeError] = {}
        for place in range(len(rows_B)):
            try:
                _run(self._build(1), encoded[place : place + 1], self._no_augmentation())
            except RuntimeError as error:
                errors[place] = error
        for place, cause in errors.items():
            reason = str(cause).strip().splitlines()[-1] if str(cause).strip() else repr(cause)
            _log.warning(
                "image cannot be decoded and weighs nothing (%s): %s; run `sixray verify` on the dataset",
                self._samples.describe(int(rows_B[place])),
                reason,
            )
        if len(errors) in (0, len(rows_B)):
            raise ValueError(
                f"a batch must have an image that DALI decodes, got {len(errors)} bad ones of {len(rows_B)} and a "
                f"failed batch (first: {self._samples.describe(int(rows_B[0]))})"
            ) from next(iter(errors.values()), None)
        return np.isin(np.arange(len(rows_B)), list(errors))

    def _no_augmentation(self) -> np.ndarray | None:
        return None if self._augmentations_E3 is None else np.zeros((1, 3))


def read_ahead(samples: SampleTable, batches: Sequence[np.ndarray]) -> Generator[list[np.ndarray], None, None]:
    """Yield the encoded images (uint8) of each batch of rows, the next batches being read meanwhile."""
    rows = (int(row) for batch in batches for row in batch)
    depth = _READ_BATCHES_AHEAD * max(map(len, batches), default=0)
    images = map_prefetched(samples.read_image, rows, _READ_THREADS, depth)
    for batch in batches:
        yield [np.frombuffer(image, dtype=np.uint8) for image in islice(images, len(batch))]


def _run(
    pipeline: Any, encoded: Sequence[np.ndarray], augmentations_B3: np.ndarray | None
) -> tuple[Tensor, np.ndarray]:
    """Return images, and the windows within their margins (B, 4)."""
    pipeline.feed_input("encoded", list(encoded))
    if augmentations_B3 is not None:
        crop_x_B, crop_y_B, _ = augmentations_B3.T
        pipeline.feed_input("crop_x", crop_x_B.astype(np.float32))
        pipeline.feed_input("crop_y", crop_y_B.astype(np.float32))
        pipeline.feed_input("mirror", is_mirrored(augmentations_B3).astype(np.int32))
    images, *windows = pipeline.run()
    windows_B4 = read_windows(windows[0]) if windows else whole_windows(len(encoded))
    # A copy, since DALI takes its buffers back.
    return from_dlpack(images.as_tensor()).clone(memory_format=torch.channels_last), windows_B4


def _substitute(encoded: Sequence[np.ndarray], is_bad_B: np.ndarray) -> list[np.ndarray]:
    good = encoded[int(np.argmin(is_bad_B))]
    return [good if bad else image for image, bad in zip(encoded, is_bad_B, strict=True)]
