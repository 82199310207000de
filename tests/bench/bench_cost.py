"""Measure the cost of refinement: each backbone alone, with CHR and SXMNet, and a training step.

Alone means the bare backbone up to its top level: no classifier, no peaks. With CHR means three levels, reversed
connections, classifiers and peaks: all of scoring. Same images and batch, in turn, the fastest round of each; the paper
reports 7.81 % more time for ResNet-34 on a V100 (Section 5.4). The share of multiplications is given too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.hardware import Hardware, detect_hardware
from model.inputs.batch import Batch
from model.inputs.feeds import FeedConfig, TrainingFeed
from model.inputs.sample_table import load_sample_table
from model.networks.backbones import build_backbone
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.output import NetworkOutput
from model.networks.peaks import find_peaks
from model.networks.registry import build_network
from model.recipes.chr import BACKBONES
from model.training.loss_base import sum_terms
from model.training.losses import LossConfig
from tests.bench.measure import Measurement, time_in_turn
from tests.bench.scoring import CLASSES, make_scans, make_shards

SIZE_PX = 224
BATCH_SIZE = 8
ROUNDS = {"resnet34": 15}
"""Of the backbone whose figure the paper gives; 7 of the others."""
STEP_BATCH_SIZE = 16
NUM_FEED_STEPS = 4
PAPERS_PERCENT = 7.81


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure inference, then training."""
    hardware = detect_hardware()
    machine = _Machine(hardware)
    for backbone in ("resnet18", *BACKBONES):
        yield from measure_inference(machine, backbone, "chr", ModelConfig(backbone=backbone, classes=CLASSES))
    sxmnet = ModelConfig(network="sxmnet", backbone="resnet50", classes=CLASSES, attention=AttentionConfig())
    yield from measure_inference(machine, "resnet50", "sxmnet, average", sxmnet)
    yield from measure_inference(machine, "resnet50", "sxmnet, meta", replace(sxmnet, fusion="meta"))
    feed = make_feed(hardware, scratch)
    yield from measure_steps(machine, feed)
    yield from measure_feed(machine, feed)


@dataclass(frozen=True, slots=True)
class _Machine:
    hardware: Hardware

    def place(self, network: nn.Module) -> nn.Module:
        placed: nn.Module = network.to(self.hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def images(self, num: int) -> Tensor:
        images_BCHW = torch.randn(num, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
        return images_BCHW.to(self.hardware.device).contiguous(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.hardware.device, torch.bfloat16, enabled=self.hardware.dtype == "bfloat16")

    def carry(self, batch: Batch) -> Batch:
        return batch._replace(labels_BK=batch.labels_BK.to(self.hardware.device))

    def take_batch(self, feed: TrainingFeed) -> Batch:
        """Return the first batch of a feed, which stays where it is."""
        batch = next(iter(TrainingFeed(feed.samples, feed.config)))
        return self.carry(batch._replace(images_BCHW=batch.images_BCHW.clone(memory_format=torch.channels_last)))

    @property
    def is_shared(self) -> bool:
        """Whether decoder and network share the cores."""
        return self.hardware.device == "cpu"

    def wait(self) -> None:
        if self.hardware.device == "cuda":
            torch.cuda.synchronize()


def measure_inference(machine: _Machine, backbone: str, name: str, config: ModelConfig) -> Iterator[Measurement]:
    """Measure a batch through the bare backbone and through a network on it, peaks included."""
    torch.manual_seed(0)
    bare = machine.place(build_backbone(backbone, 1)).eval()
    network = machine.place(build_network(config)).eval()
    images_BCHW, sizes_B = machine.images(BATCH_SIZE), torch.full((BATCH_SIZE,), 700)

    def look() -> None:
        with torch.inference_mode(), machine.autocast():
            output: NetworkOutput = network(images_BCHW)
            find_peaks(output.heatmaps, sizes_B, sizes_B).value_BK.cpu(), output.logits_BK.cpu()

    def pass_through() -> None:
        with torch.inference_mode(), machine.autocast():
            bare(images_BCHW)
        machine.wait()

    alone_flops, with_flops = _count_flops(pass_through), _count_flops(look)
    seconds = time_in_turn({"alone": pass_through, "with": look}, ROUNDS.get(backbone, 7), pick=min)
    ms = {what: 1000 * value / BATCH_SIZE for what, value in seconds.items()}
    yield Measurement(f"{backbone} alone", ms["alone"], "ms/image")
    yield Measurement(f"{backbone} with {name}", ms["with"], "ms/image")
    aim = f"aim: below {PAPERS_PERCENT}" if (backbone, name) == ("resnet34", "chr") else ""
    yield Measurement(f"{backbone}: time of {name} on top", 100 * (ms["with"] / ms["alone"] - 1), "%", aim)
    yield Measurement(f"{backbone}: multiplications of {name} on top", 100 * (with_flops / alone_flops - 1), "%")


def _count_flops(run_once: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        run_once()
    return int(counter.get_total_flops())


def measure_steps(machine: _Machine, feed: TrainingFeed) -> Iterator[Measurement]:
    """Measure a training step of the bare backbone, of plain and of CHR, and what each keeps for its backward pass."""
    batch = machine.take_batch(feed)
    config = ModelConfig(backbone="resnet34", classes=feed.samples.classes)
    steps = {
        "bare backbone": _bare_step(machine, batch),
        "plain": make_step(machine, build_network(replace(config, network="plain", num_levels=1)), batch),
        "chr": make_step(machine, build_network(config), batch),
    }
    kept_mb = {name: _kept_bytes(step) / 1e6 for name, step in steps.items()}
    seconds = time_in_turn(steps, rounds=5, pick=min)
    for name in steps:
        yield Measurement(f"training step, resnet34, {name}", 1000 * seconds[name] / STEP_BATCH_SIZE, "ms/image")
    for name in steps:
        yield Measurement(f"kept for the backward pass, resnet34, {name}", kept_mb[name] / STEP_BATCH_SIZE, "MB/image")
    over = 100 * (seconds["chr"] / seconds["bare backbone"] - 1)
    yield Measurement("resnet34: time of chr on top of a step", over, "%")
    yield Measurement(
        "resnet34: memory of chr on top of a step", 100 * (kept_mb["chr"] / kept_mb["bare backbone"] - 1), "%"
    )


def _bare_step(machine: _Machine, batch: Batch) -> Callable[[], None]:
    backbone = machine.place(build_backbone("resnet34", 1)).train()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with machine.autocast():
            (features_BDhw,) = backbone(batch.images_BCHW)
        features_BDhw.float().mean().backward()
        optimizer.step()
        machine.wait()

    return step


def make_step(machine: _Machine, network: nn.Module, batch: Batch) -> Callable[[], None]:
    """Return what trains a network on one batch, again and again."""
    take = _make_trainer(machine, network)
    return lambda: take(batch)


def _make_trainer(machine: _Machine, network: nn.Module) -> Callable[[Batch], None]:
    network = machine.place(network).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    loss = LossConfig()

    def take(batch: Batch) -> None:
        optimizer.zero_grad()
        with machine.autocast():
            output = network(batch.images_BCHW)
        sum_terms(loss.terms(output, batch)).backward()
        optimizer.step()
        machine.wait()

    return take


def _kept_bytes(step: Callable[[], None]) -> int:
    """Return the bytes of all tensors but weights that one step keeps for its backward pass, each storage once."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(sizes.values())


def make_feed(hardware: Hardware, scratch: Path) -> TrainingFeed:
    """Return a feed of scans of the release's sizes, one item in five."""
    samples = load_sample_table(
        make_shards(scratch / "feed", make_scans(32), STEP_BATCH_SIZE * NUM_FEED_STEPS, 1), "test"
    )
    samples.labels_NK[:] = np.random.default_rng(0).random(samples.labels_NK.shape) < 0.2
    config = FeedConfig(
        batch_size=STEP_BATCH_SIZE,
        input=InputConfig(size_px=SIZE_PX),
        resize_px=256,
        hardware=hardware,
    )
    return TrainingFeed(samples, config)


def measure_feed(machine: _Machine, feed: TrainingFeed) -> Iterator[Measurement]:
    """Measure steps of CHR on ResNet-34 on tensors that lie there, and on scans that DALI decodes meanwhile."""
    take = _make_trainer(machine, build_network(ModelConfig(backbone="resnet34", classes=feed.samples.classes)))
    batch = machine.take_batch(feed)

    def train_on_feed() -> None:
        for fresh in feed:
            take(machine.carry(fresh))

    def train_on_tensors() -> None:
        for _ in range(NUM_FEED_STEPS):
            take(batch)

    seconds = time_in_turn({"tensors": train_on_tensors, "feed": train_on_feed, "alone": lambda: list(feed)}, pick=min)
    rate = {name: len(feed.samples) / value for name, value in seconds.items()}
    yield Measurement("training steps of chr, resnet34, synthetic tensors", rate["tensors"], "scans/s")
    yield Measurement("training steps of chr, resnet34, fed by DALI", rate["feed"], "scans/s")
    yield Measurement("DALI's feed alone", rate["alone"], "scans/s")
    possible = 1 / (1 / rate["tensors"] + 1 / rate["alone"]) if machine.is_shared else rate["tensors"]
    yield Measurement("fed / what both allow", rate["feed"] / possible, "ratio", "aim: at least 0.95")
