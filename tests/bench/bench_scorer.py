"""Measure the scorer itself: decode and network are replaced by sleeps, as long as on a GPU.

What is left is what Python does for a scan: read, check, hand over, collect, build tables. Its processor time is
measured whole and in its parts; the sha256 of the bytes is most of it, and OpenSSL's.
"""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.hardware import detect_hardware
from model.inputs.decoded_batch import Decoded
from model.networks.config import ModelConfig
from model.scoring.engine_selection import EngineSpec
from model.scoring.scorer import Scorer
from model.scoring.scoring_network import StartedBatch
from shards.format.dataset import Dataset
from shards.format.shard_reader import read_rows, read_scans
from shards.images.inspect import read_image_size
from shards.storage import read_range
from tests.bench.measure import Measurement
from tests.bench.scoring import CLASSES, make_scans, make_shards, score_all

BATCH_SIZE = 256
DECODE_PER_SECOND, FORWARD_PER_SECOND = 6_000, 12_000
NUM_SCANS, NUM_SHARDS = 16_384, 6
_ROUNDS = 5
_NUM_LEVELS = 3


class SleepingDecoder:
    """Stands for a decoder that a GPU does: `decode_ahead` sleeps."""

    def __init__(self) -> None:
        self.images_BCHW = torch.zeros(BATCH_SIZE, 3, 1, 1)
        self.windows_B4 = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(BATCH_SIZE, 1)

    def decode_ahead(self, batches: Iterable[tuple[Any, list[Any], Any]]) -> Generator[tuple[Any, Decoded], None, None]:
        """Yield images of nothing."""
        for label, encoded, _ in batches:
            time.sleep(len(encoded) / DECODE_PER_SECOND)
            yield label, Decoded(self.images_BCHW[: len(encoded)], {}, self.windows_B4[: len(encoded)])


class SleepingNetwork:
    """Stands for a network: `start` sleeps."""

    def __init__(self) -> None:
        self.config = ModelConfig(backbone="resnet34", classes=CLASSES)
        self.hardware = detect_hardware()
        self.spec = EngineSpec("eager", "float32")
        self.batch_size = self.requested_batch_size = BATCH_SIZE
        self.box_share = None

    def start(self, images_BCHW: torch.Tensor, sizes_px_B2: np.ndarray, windows_B4: np.ndarray) -> StartedBatch:
        """Return scores of nothing."""
        time.sleep(len(images_BCHW) / FORWARD_PER_SECOND)
        packed_BP = torch.zeros(len(images_BCHW), len(CLASSES) * (1 + _NUM_LEVELS + 4) + 2)
        return StartedBatch(packed_BP, None, len(CLASSES), sizes_px_B2.astype(np.float32), windows_B4)


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure the rate, then the processor time."""
    images = make_scans(64)
    shards = make_shards(scratch / "shards", images, NUM_SCANS, NUM_SHARDS)
    scorer = Scorer(SleepingNetwork(), decoder=SleepingDecoder())  # type: ignore[arg-type]
    wall_s, cpu_s = _best(lambda: score_all(scorer, shards))
    rate = NUM_SCANS / wall_s
    yield Measurement("scans of a batch", BATCH_SIZE, "scans")
    yield Measurement("bytes of a scan", float(np.mean([len(image) for image in images])), "bytes")
    yield Measurement("end to end, decode and network asleep", rate, "scans/s")
    slower = min(DECODE_PER_SECOND, FORWARD_PER_SECOND)
    yield Measurement("end to end / the slower part", rate / slower, "ratio", "aim: at least 0.9")
    yield Measurement("processor time, all of it", cpu_s / NUM_SCANS * 1e6, "us/scan", "aim: at most 60")
    yield from _parts(shards, images)


def _parts(shards: Dataset, images: list[bytes]) -> Iterator[Measurement]:
    (shard, *_) = shards.shards()
    tar_url, samples_url = shards.tar_url(shard), shards.samples_url(shard)
    rows = read_rows(samples_url, shard.num_scans)
    batches = [rows[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE)]
    many = [images[number % len(images)] for number in range(shard.num_scans)]

    def read() -> None:
        for batch in batches:
            start, last = batch[0].offset_bytes, batch[-1]
            read_range(tar_url, start, last.offset_bytes + last.size_bytes - start)

    parts: dict[str, Callable[[], object]] = {
        "rows of samples": lambda: read_rows(samples_url, shard.num_scans),
        "read and check": lambda: [None for _ in read_scans(tar_url, rows, BATCH_SIZE)],
        "of which sha256": lambda: [hashlib.sha256(image).digest() for image in many],
        "of which the system's read": read,
        "of which markers of the JPEG": lambda: [read_image_size(image) for image in many],
    }
    for name, part in parts.items():
        yield Measurement(f"processor time, {name}", _best(part)[1] / shard.num_scans * 1e6, "us/scan")


def _best(run: Callable[[], object]) -> tuple[float, float]:
    """Return the least wall time and the least processor time of some rounds, in seconds."""
    found = []
    for _ in range(_ROUNDS):
        began, cpu_began = time.perf_counter(), time.process_time()
        run()
        found.append((time.perf_counter() - began, time.process_time() - cpu_began))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)
