"""Measure a training step of CHR on EfficientNet-lite0 at 224 px by part and number format, and decoding beside it.

Random weights and generated scans of the release's sizes: neither changes what is computed. Contenders take turns. A
step runs on one thread, and what counts is processor time, which other work on the machine distorts little; the rate of
a machine is what its cores would do if none waited. bf16 is that of autocast, with depthwise convolutions as PyTorch
has them and as `model.networks.bf16` has them.
"""

import time
from collections.abc import Callable, Iterator
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
    hardware = detect_processor()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(1 + ROUNDS):  # kernels are chosen and buffers taken in the first one
            for contender in contenders:
                contender.step()
        layer = {dtype: layer_cost(dtype) for dtype in (torch.float32, torch.bfloat16)}
    finally:
        torch.set_num_threads(num_threads)
    for contender in contenders:
        for part in contender.seconds:
            yield Measurement(f"{contender.name}: {part}", 1000 * contender.cost(part), "core-ms/scan")
        yield Measurement(f"{contender.name}: step", 1000 * contender.step_cost, "core-ms/scan")
    _, float32, plain, mixed = (contender.step_cost for contender in contenders)
    yield Measurement("bf16: all layers / depthwise in float32", plain / mixed, "ratio", "aim: at least 1.5")
    yield Measurement("float32 / bf16, depthwise in float32", float32 / mixed, "ratio", "above 1 if bf16 pays here")
    for dtype, cost in layer.items():
        yield Measurement(f"gradients of a 5x5 depthwise layer of stride 2, {dtype}", 1000 * cost, "core-ms/scan")
    decode = decoding_cost(scratch, hardware)
    yield Measurement("read, decode, squash and crop", 1000 * decode, "core-ms/scan")
    best = mixed if hardware.dtype == "bfloat16" else float32
    rate = hardware.num_cores / (best + decode)
    yield Measurement(f"{hardware.num_cores} cores, {hardware.dtype}", rate, "scans/s", "aim: at least 30 on two cores")
    yield Measurement("what decoded pixels at rest would gain", 100 * decode / best, "%")


@dataclass(slots=True)
class Contender:
    """A network in one number format, and the processor seconds of each part of its steps."""

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

    def step(self) -> None:
        """Run one step, its parts timed."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bfloat16"):
            loss = self._time("forward", lambda: self.network(self.images_BCHW).level_logits_LBK.mean())
        self._time("backward", loss.backward)
        self._time("update", self.optimizer.step)
        self.optimizer.zero_grad()

    def _time(self, part: str, work: Callable[[], T]) -> T:
        started = time.process_time()
        done = work()
        self.seconds.setdefault(part, []).append(time.process_time() - started)
        return done

    def cost(self, part: str) -> float:
        """Return the core-seconds of a part a scan; the first step does not count."""
        return median(self.seconds[part][1:]) / BATCH_SIZE

    @property
    def step_cost(self) -> float:
        """Core-seconds of a whole step a scan."""
        return sum(map(self.cost, self.seconds))


def layer_cost(dtype: torch.dtype) -> float:
    """Return the core-seconds a scan of the gradients of one layer of the backbone: 144 channels, 56x56 to 28x28."""
    layer = nn.Conv2d(144, 144, 5, stride=2, padding=2, groups=144, bias=False)
    layer.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    features_BDhw = torch.randn(BATCH_SIZE, 144, 56, 56, dtype=dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(1 + ROUNDS):
        total = layer(features_BDhw.requires_grad_()).sum()
        started = time.process_time()
        torch.autograd.grad(total, [features_BDhw, layer.weight])
        seconds.append(time.process_time() - started)
    return median(seconds[1:]) / BATCH_SIZE


def decoding_cost(scratch: Path, hardware: Hardware) -> float:
    """Return the core-seconds of the feed a scan, its start not counted."""
    dataset = make_shards(scratch / "scans", make_scans(64), NUM_SCANS, 1)
    config = FeedConfig(
        input=InputConfig(size_px=SIZE_PX), resize_px=RESIZE_PX, batch_size=BATCH_SIZE, hardware=hardware
    )
    feed = TrainingFeed(load_sample_table(dataset, "test"), config)
    sum(len(batch.rows_B) for batch in feed)  # an epoch of start and caches
    started = time.process_time()
    num_scans = sum(len(batch.rows_B) for batch in feed)
    return (time.process_time() - started) / num_scans
