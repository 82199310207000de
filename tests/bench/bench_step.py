"""Measure a training step of CHR on EfficientNet-lite0 at 224 px by part and number format, and decoding beside it.

Random weights and generated scans of the release's sizes: neither changes what is computed. Each part runs alone, on
all cores, in turn with the others; bf16 is that of autocast, with its depthwise convolutions as PyTorch has them and as
`model.networks.bf16` has them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.hardware import Hardware, detect_processor
from model.inputs.feeds import FeedConfig, TrainingFeed
from model.inputs.sample_table import load_sample_table
from model.networks.bf16 import train_depthwise_in_float32
from model.networks.config import InputConfig, ModelConfig
from model.networks.registry import build_network
from tests.bench.measure import Measurement
from tests.bench.scoring import CLASSES, make_scans, make_shards

T = TypeVar("T")

BACKBONE = "tf_efficientnet_lite0"
SIZE_PX, RESIZE_PX = 224, 256
BATCH_SIZE = 16
ROUNDS = 5
NUM_SCANS = 160


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure the contenders in turn, then decoding."""
    contenders = [
        Contender("float32, channels first", "float32", channels_last=False),
        Contender("float32", "float32"),
        Contender("bf16, all layers", "bfloat16"),
        Contender("bf16, depthwise in float32", "bfloat16", is_mixed=True),
    ]
    for _ in range(ROUNDS):
        for contender in contenders:
            contender.step()
    for contender in contenders:
        for part, seconds in contender.seconds.items():
            yield Measurement(f"{contender.name}: {part}", 1000 * median(seconds) / BATCH_SIZE, "ms/scan")
        yield Measurement(f"{contender.name}: step", contender.scans_per_second, "scans/s")
    plain, mixed = (contenders[number].scans_per_second for number in (2, 3))
    yield Measurement("bf16, depthwise in float32 / all layers", mixed / plain, "ratio", "aim: at least 1.5")
    decode = decoding_rate(scratch, detect_processor())
    yield Measurement("read, decode, squash and crop", decode, "scans/s")
    best = max(contender.scans_per_second for contender in contenders)
    yield Measurement("1 / (1/decode + 1/step)", 1 / (1 / decode + 1 / best), "scans/s", "aim: at least 30")
    yield Measurement("what decoded pixels at rest would gain", 100 * best / decode, "%")


@dataclass(slots=True)
class Contender:
    """A network in one number format, and the seconds of each part of its steps."""

    name: str
    dtype: str
    channels_last: bool = True
    is_mixed: bool = False
    seconds: dict[str, list[float]] = field(default_factory=dict)
    network: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    images_BCHW: Tensor = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        self.network = build_network(ModelConfig(backbone=BACKBONE, classes=CLASSES)).train()
        self.network.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.images_BCHW = torch.randn(BATCH_SIZE, 3, SIZE_PX, SIZE_PX).contiguous(memory_format=memory_format)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        if self.is_mixed:
            train_depthwise_in_float32(self.network)
        self.step()  # kernels are chosen and buffers taken at the first one
        self.seconds.clear()

    def step(self) -> None:
        """Run and time one step."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bfloat16"):
            loss = self._time("forward", lambda: self.network(self.images_BCHW).level_logits_LBK.mean())
        self._time("backward", loss.backward)
        self._time("update", self.optimizer.step)
        self.optimizer.zero_grad()

    def _time(self, part: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        done = work()
        self.seconds.setdefault(part, []).append(time.perf_counter() - started)
        return done

    @property
    def scans_per_second(self) -> float:
        """Of whole steps."""
        return BATCH_SIZE / sum(median(seconds) for seconds in self.seconds.values())


def decoding_rate(scratch: Path, hardware: Hardware) -> float:
    """Return scans per second of the feed alone, its start not counted."""
    dataset = make_shards(scratch / "scans", make_scans(64), NUM_SCANS, 1)
    config = FeedConfig(
        input=InputConfig(size_px=SIZE_PX), resize_px=RESIZE_PX, batch_size=BATCH_SIZE, hardware=hardware
    )
    feed = TrainingFeed(load_sample_table(dataset, "test"), config)
    with closing(iter(feed)) as batches:  # type: ignore[type-var]
        next(batches)
        started = time.perf_counter()
        num_scans = sum(len(batch.rows_B) for batch in batches)
    return num_scans / (time.perf_counter() - started)
