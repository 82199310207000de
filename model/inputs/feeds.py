"""Feed a network with batches of decoded scans, in seeded, resumable epochs.

Shapes: B batch  K classes  N samples  E entries of an epoch  V views of an epoch  H W pixels  C colour
"""

import itertools
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.hardware import Hardware
from model.inputs.augment import crop_windows, epoch_augmentations
from model.inputs.augmentation import AugmentationConfig, epoch_variations, vary
from model.inputs.batch import Batch, Boxes
from model.inputs.crop_geometry import areas_in, boxes_in_windows
from model.inputs.decoded_batch import Decoded
from model.inputs.decoder import BatchDecoder, use_on_current_stream
from model.inputs.mixing import epoch_partners, mix, with_partners
from model.inputs.projecting import Projector, epoch_projections
from model.inputs.sample_table import SampleTable
from model.inputs.sampling import epoch_entries, epoch_order, num_batches, rank_batches
from model.networks.config import InputConfig
from shards.format.classes import UNKNOWN
from shards.prefetch import iterate_in_background, map_prefetched

_log = logging.getLogger(__name__)
_READ_THREADS = 8
_READ_BATCHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """How a feed makes batches."""

    input: InputConfig
    resize_px: int
    """What a scan is squashed to before a random crop of the input's size is taken from it."""
    batch_size: int
    """Of one rank."""
    hardware: Hardware
    """The device, and the cores that decode."""
    device_index: int = 0
    """Of the GPU, if the device is one."""
    seed: int = 0
    positive_repeats: int = 1
    """How often a scan with any positive label comes in an epoch of training; 1 is the paper's plain sampling."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """What training varies beside crop and mirror."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}")
        if self.resize_px < self.input.size_px:
            raise ValueError(f"resize_px must be >= the input's size_px {self.input.size_px}, got {self.resize_px}")
        if self.positive_repeats < 1:
            raise ValueError(f"positive_repeats must be >= 1, got {self.positive_repeats}")


class TrainingFeed:
    """Batches of shuffled, augmented scans; iterating gives the rest of the current epoch, then the next one.

    `state_dict` counts the batches that were yielded, not those prefetched, so that a run resumes with the next batch
    it would have taken, whichever step it was stopped at.
    """

    def __init__(self, samples: SampleTable, config: FeedConfig, *, rank: int = 0, world_size: int = 1) -> None:
        if len(samples) == 0:
            raise ValueError("samples must be at least 1 scan to train on, got 0; see the splits in `sixray info`")
        self.samples = samples
        self.config = config
        self._entries_E = epoch_entries(samples.labels_NK, config.positive_repeats)
        self._place = (rank, world_size)
        self._epoch, self._next_batch = 0, 0
        self._bad_rows: dict[int, str] = {}
        share = config.augmentation.projected
        self._projector = Projector(samples, share, config.input, config.resize_px, config.seed) if share else None

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same on every rank."""
        return num_batches(len(self._entries_E), self.config.batch_size, self._place[1])

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._next_batch
        order_E = epoch_order(len(self._entries_E), self.config.seed, epoch)
        batches = rank_batches(order_E, self.config.batch_size, *self._place)
        config, views = self.config, self._draw(epoch)
        loader = _Loader(self.samples, config, views.rows_V, views.augmentations_V3, self._bad_rows)
        asked = [with_partners(coded_B, views.partners_E) for coded_B in batches]
        for number, batch in enumerate(loader.load_in_background(asked[first:]), start=first + 1):
            self._epoch, self._next_batch = (epoch, number) if number < len(batches) else (epoch + 1, 0)
            entries_B = _entries_of(asked[number - 1])
            if self._projector is not None:
                batch = self._projector.project(batch, views.projections_V2[entries_B])
            varied = vary(batch, config.augmentation, views.variations_V7[entries_B], config.input)
            yield mix(varied, batches[number - 1], views.partners_E, config.input)

    def _draw(self, epoch: int) -> "_Views":
        """Return the views of the scans of an epoch, and of those that they are multiplied by."""
        num, place, mixed = len(self._entries_E), (self.config.seed, epoch), self.config.augmentation.mixed
        crops, variations = epoch_augmentations(num, *place), epoch_variations(num, *place)
        if not mixed:
            return _Views(np.full(num, -1), self._entries_E, crops, variations, epoch_projections(num, num, *place))
        partners_E = epoch_partners(num, mixed, *place)
        return _Views(
            partners_E,
            np.concatenate([self._entries_E, self._entries_E[partners_E]]),
            np.concatenate([crops, epoch_augmentations(num, *place, stream=4)]),
            np.concatenate([variations, epoch_variations(num, *place, stream=5)]),
            epoch_projections(num, 2 * num, *place),
        )

    def state_dict(self) -> dict[str, int]:
        """Return the place of the next batch."""
        return {"epoch": self._epoch, "next_batch": self._next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at a place that `state_dict` returned, with the same samples, config and world size."""
        self._epoch, self._next_batch = state["epoch"], state["next_batch"]


class _Views(NamedTuple):
    """What is drawn for the scans of an epoch: of each entry, then of the scan that it is multiplied by, if any."""

    partners_E: np.ndarray
    rows_V: np.ndarray
    augmentations_V3: np.ndarray
    variations_V7: np.ndarray
    projections_V2: np.ndarray


class ValidationFeed:
    """Batches of held-out scans in their order, prepared as for scoring: whole, squashed, not augmented."""

    def __init__(self, samples: SampleTable, config: FeedConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.samples = samples
        self.config = config
        self._place = (rank, world_size)
        self.bad_rows: dict[int, str] = {}
        """Rows that could not be decoded so far, and why; their labels are -1 in batches."""

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return num_batches(len(self.samples), self.config.batch_size, self._place[1])

    def __iter__(self) -> Iterator[Batch]:
        batches = rank_batches(np.arange(len(self.samples)), self.config.batch_size, *self._place)
        loader = _Loader(self.samples, self.config, np.arange(len(self.samples)), None, self.bad_rows)
        return loader.load_in_background(batches)


class _Loader:
    """Reads and decodes batches of entries: augmented for training, whole for validation."""

    def __init__(
        self,
        samples: SampleTable,
        config: FeedConfig,
        entries_E: np.ndarray,
        augmentations_E3: np.ndarray | None,
        bad_rows: dict[int, str],
    ) -> None:
        self._samples = samples
        self._config = config
        self._entries_E = entries_E
        self._augmentations_E3 = augmentations_E3
        self._bad_rows = bad_rows
        """Why rows cannot be decoded: found in one epoch, and not tried in the next."""

    def load_in_background(self, batches: Sequence[np.ndarray]) -> Generator[Batch, None, None]:
        """Yield the batches of entries, prepared ahead in a thread; a negative one, -1 - entry, stands for padding."""
        for batch in iterate_in_background(self._load(batches)):
            use_on_current_stream(batch.images_BCHW)
            yield batch

    def _load(self, batches: Sequence[np.ndarray]) -> Generator[Batch, None, None]:
        decoder = BatchDecoder(
            self._config.input,
            self._config.hardware,
            max(map(len, batches), default=1) if self._config.augmentation.mixed else self._config.batch_size,
            resize_px=None if self._augmentations_E3 is None else self._config.resize_px,
            device_index=self._config.device_index,
        )
        entries = [_entries_of(coded_B) for coded_B in batches]
        rows = [self._entries_E[entries_B] for entries_B in entries]
        depth = _READ_BATCHES * self._config.batch_size
        row_of_image = itertools.chain.from_iterable(rows_B.tolist() for rows_B in rows)
        with closing(map_prefetched(self._read, row_of_image, _READ_THREADS, depth)) as images:
            asked = (
                (
                    (coded_B, entries_B, rows_B),
                    list(itertools.islice(images, len(rows_B))),
                    None if self._augmentations_E3 is None else self._augmentations_E3[entries_B],
                )
                for coded_B, entries_B, rows_B in zip(batches, entries, rows, strict=True)
            )
            with closing(decoder.decode_ahead(asked)) as found:
                for (coded_B, entries_B, rows_B), decoded in found:
                    is_bad_B = self._note_bad(rows_B, decoded)
                    yield self._make_batch(decoded, rows_B, (coded_B < 0) | is_bad_B, entries_B)

    def _read(self, row: int) -> bytes | None:
        return None if row in self._bad_rows else self._samples.read_image(row)

    def _note_bad(self, rows_B: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return which images are bad; a new one is logged and remembered."""
        for place, reason in decoded.errors.items():
            row = int(rows_B[place])
            if row not in self._bad_rows:
                _log.warning(
                    "image cannot be decoded and weighs nothing (%s): %s; run `sixray verify` on the dataset",
                    self._samples.describe(row),
                    reason,
                )
            self._bad_rows[row] = reason
        is_bad_B = np.array([row in self._bad_rows for row in rows_B.tolist()])
        if is_bad_B.all():
            row = int(rows_B[0])
            raise ValueError(
                f"a batch must have an image that DALI decodes, got {len(rows_B)} bad ones of {len(rows_B)} "
                f"(first: {self._samples.describe(row)}: {self._bad_rows[row]})"
            )
        return is_bad_B

    def _make_batch(self, decoded: Decoded, rows_B: np.ndarray, is_void_B: np.ndarray, entries_B: np.ndarray) -> Batch:
        augmentations_B3 = None if self._augmentations_E3 is None else self._augmentations_E3[entries_B]
        labels_BK = np.where(is_void_B[:, None], UNKNOWN, self._samples.labels_NK[rows_B]).astype(np.float32)
        levels_B = np.where(is_void_B, 0, self._samples.levels_N[rows_B]).astype(np.int64)
        boxes = self._visible_boxes(rows_B, is_void_B, decoded.windows_B4.numpy(), augmentations_B3)
        return Batch(
            decoded.images_BCHW,
            self._tensor(labels_BK),
            self._tensor(rows_B),
            Boxes(*(self._tensor(array) for array in boxes)),
            self._tensor(levels_B),
            self._tensor(is_void_B),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Return a tensor that is copied to a GPU while the host goes on."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._config.hardware.device == "cuda" else tensor

    def _visible_boxes(
        self, rows_B: np.ndarray, is_void_B: np.ndarray, windows_B4: np.ndarray, augmentations_B3: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the fields of `Boxes`."""
        edges_M4, scans_M, classes_M = self._samples.boxes_of(rows_B)
        kept_M = ~is_void_B[scans_M]
        edges_M4, scans_M, classes_M = edges_M4[kept_M], scans_M[kept_M], classes_M[kept_M]
        areas_M = areas_in(edges_M4, windows_B4[scans_M])
        if augmentations_B3 is not None:
            config = self._config
            windows_B4 = crop_windows(windows_B4, augmentations_B3, config.resize_px, config.input.size_px)
        seen_M4 = boxes_in_windows(edges_M4, windows_B4[scans_M])
        return seen_M4, areas_M, scans_M, classes_M


def _entries_of(coded_B: np.ndarray) -> np.ndarray:
    """Return the entries of a batch; that of a padding copy is coded as -1 - entry."""
    return np.where(coded_B < 0, -1 - coded_B, coded_B)
