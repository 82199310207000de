"""How do scans reach the network? Exact, seeded, resumable epochs; images decoded by DALI ahead of need.

Whatever is random follows from (seed, epoch, sample) alone, never from batch size, rank, worker or point of resumption:
an epoch is one permutation of all samples, and each sample's crop and mirror come from a table of that epoch.

Over `world_size` ranks, rank r takes places r, r + world_size, ... of the permutation, so that the ranks' batches
together are the batch one process would take. Every sample appears exactly once an epoch. Ranks take the same number
of steps with batches of the same size: where the samples do not divide, the last batch of some ranks ends with one
repeated sample whose labels are all unknown, so that it weighs nothing in the loss and in every metric (batch
normalisation does see it).

Shapes: B batch  K classes  N samples  H W pixels  C colour
"""

import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from model.graphs import scoring_graph, training_graph
from model.samples import Samples

_log = logging.getLogger(__name__)
_READ_THREADS = 8
_BATCHES_AHEAD = 2
T = TypeVar("T")


class Batch(NamedTuple):
    """What a step takes."""

    images_BCHW: Tensor
    """float32, normalised, channels_last."""
    labels_BK: Tensor
    """float32: 1 present, 0 absent, NaN unknown (or padding, or an image that cannot be decoded)."""
    rows_B: Tensor
    """int64 into the feed's samples; `feed.samples.keys` has the keys."""


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

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}")
        if self.crop_px > self.resize_px:
            raise ValueError(f"crop_px must be <= resize_px {self.resize_px}, got {self.crop_px}")


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of one epoch, int64 (N,)."""
    return _generator(seed, epoch, 0).permutation(num_samples)


def epoch_augmentations(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return float64 (N, 3) in [0, 1): crop x, crop y and mirror of each sample in one epoch."""
    return _generator(seed, epoch, 1).random((num_samples, 3))


def rank_batches(order_N: np.ndarray, batch_size: int, rank: int, world_size: int) -> list[np.ndarray]:
    """Return the rows of each batch of a rank; -1 - row stands for a padding copy of `row`."""
    if len(order_N) == 0:
        return []
    rows = order_N[rank::world_size]
    if len(rows) < math.ceil(len(order_N) / world_size):
        rows = np.append(rows, -1 - order_N[0])
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class TrainingFeed:
    """Batches of shuffled, augmented scans; iterating gives the rest of the current epoch, then the next one.

    `state_dict` counts the batches that were handed out, not those read ahead, so that a run which is stopped after
    any step goes on with the next batch it would have taken.
    """

    def __init__(self, samples: Samples, config: FeedConfig, *, rank: int = 0, world_size: int = 1) -> None:
        if len(samples) == 0:
            raise ValueError("samples must be at least 1 scan to train on, got 0; see the splits in `sixray info`")
        self.samples = samples
        self.config = config
        self._place = (rank, world_size)
        self._epoch, self._next_batch = 0, 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same on every rank."""
        return math.ceil(math.ceil(len(self.samples) / self._place[1]) / self.config.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._next_batch
        order_N = epoch_order(len(self.samples), self.config.seed, epoch)
        batches = rank_batches(order_N, self.config.batch_size, *self._place)
        augmentations_N3 = epoch_augmentations(len(self.samples), self.config.seed, epoch)
        decoder = _Decoder(self.samples, self.config, augmentations_N3)
        for number, batch in enumerate(run_ahead(decoder.decode(batches[first:])), start=first + 1):
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

    def __init__(self, samples: Samples, config: FeedConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.samples = samples
        self.config = config
        self._place = (rank, world_size)

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return math.ceil(math.ceil(len(self.samples) / self._place[1]) / self.config.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        batches = rank_batches(np.arange(len(self.samples)), self.config.batch_size, *self._place)
        return run_ahead(_Decoder(self.samples, self.config, None).decode(batches))


class _Decoder:
    """Reads and decodes batches of rows: with augmentations the training graph, without them the scoring graph."""

    def __init__(self, samples: Samples, config: FeedConfig, augmentations_N3: np.ndarray | None) -> None:
        self._samples = samples
        self._config = config
        self._augmentations_N3 = augmentations_N3

    def decode(self, batches: Sequence[np.ndarray]) -> Iterator[Batch]:
        pipeline = self._build(self._config.batch_size)
        with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="read") as pool:
            for coded_B, encoded in read_ahead(self._samples, batches, pool):
                rows_B, is_padding_B = _decode_padding(coded_B)
                try:
                    images_BCHW = self._run(pipeline, rows_B, encoded)
                    is_bad_B = np.zeros(len(rows_B), dtype=bool)
                except RuntimeError:
                    is_bad_B = self._find_bad(rows_B, encoded)
                    pipeline = self._build(self._config.batch_size)  # one bad image ends a pipeline for good
                    images_BCHW = self._run(pipeline, rows_B, _substitute(encoded, is_bad_B))
                labels_BK = self._samples.labels_NK[rows_B].copy()
                labels_BK[is_padding_B | is_bad_B] = np.nan
                yield Batch(images_BCHW, torch.from_numpy(labels_BK), torch.from_numpy(rows_B))

    def _build(self, batch_size: int) -> Any:
        config = self._config
        common = {
            "mean": config.mean,
            "std": config.std,
            "decode_device": config.decode_device,
            "batch_size": batch_size,
            "num_threads": config.num_threads,
            "device_id": config.device_id,
            "prefetch_queue_depth": 1,  # `run_ahead` works ahead for reading and decoding together
        }
        if self._augmentations_N3 is None:
            return scoring_graph(image_size_px=config.crop_px, **common)
        return training_graph(resize_px=config.resize_px, crop_px=config.crop_px, **common)

    def _run(self, pipeline: Any, rows_B: np.ndarray, encoded: Sequence[np.ndarray]) -> Tensor:
        pipeline.feed_input("encoded", list(encoded))
        if self._augmentations_N3 is not None:
            crop_x_B, crop_y_B, mirror_B = self._augmentations_N3[rows_B].T
            pipeline.feed_input("crop_x", crop_x_B.astype(np.float32))
            pipeline.feed_input("crop_y", crop_y_B.astype(np.float32))
            pipeline.feed_input("mirror", (mirror_B < 0.5).astype(np.int32))
        (images,) = pipeline.run()
        # A copy, since DALI takes its buffers back.
        return from_dlpack(images.as_tensor()).clone(memory_format=torch.channels_last)

    def _find_bad(self, rows_B: np.ndarray, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """Return which images DALI cannot decode, each tried alone; raise where none is to blame, or all are."""
        errors: dict[int, RuntimeError] = {}
        for place in range(len(rows_B)):
            try:
                self._run(self._build(1), rows_B[place : place + 1], encoded[place : place + 1])
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


def read_ahead(
    samples: Samples, batches: Sequence[np.ndarray], pool: ThreadPoolExecutor
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield each batch with its encoded images (uint8 arrays), reading the next batches meanwhile."""
    pending: deque[tuple[np.ndarray, list[Future[bytes]]]] = deque()
    for coded_B in [*batches, *[None] * _BATCHES_AHEAD]:
        if coded_B is not None:
            rows_B, _ = _decode_padding(coded_B)
            pending.append((coded_B, [pool.submit(samples.read_image, int(row)) for row in rows_B]))
        if pending and (len(pending) > _BATCHES_AHEAD or coded_B is None):
            done_B, futures = pending.popleft()
            yield done_B, [np.frombuffer(future.result(), dtype=np.uint8) for future in futures]


def run_ahead(items: Iterator[T], depth: int = _BATCHES_AHEAD) -> Generator[T, None, None]:
    """Yield what `items` yields, computed in a thread up to `depth` items ahead; its errors are raised here.

    Leaving the loop early stops the thread after the item it is at.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def produce() -> None:
        failure: BaseException | None = None
        try:
            for item in items:
                if not _put(ready, (item, None), stopped):
                    return
        except BaseException as error:
            failure = error
        _put(ready, (None, failure), stopped)

    thread = threading.Thread(target=produce, name="feed", daemon=True)
    thread.start()
    try:
        while True:
            item, failure = ready.get()
            if failure is not None:
                raise failure
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _put(ready: "queue.Queue[Any]", item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=0.1)
            return True
    return False


def _substitute(encoded: Sequence[np.ndarray], is_bad_B: np.ndarray) -> list[np.ndarray]:
    good = encoded[int(np.argmin(is_bad_B))]
    return [good if bad else image for image, bad in zip(encoded, is_bad_B, strict=True)]


def _decode_padding(coded_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    is_padding_B = coded_B < 0
    return np.where(is_padding_B, -1 - coded_B, coded_B), is_padding_B


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, stream))))
