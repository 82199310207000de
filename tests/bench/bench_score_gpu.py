"""Measure scoring on a GPU: decode, forward, end to end, beside a DataLoader with Pillow.

    python -m tests.bench.bench_score_gpu [decode|forward|end|rival ...] [--out CSV] [--quick]

Every figure is printed as it comes and written to a CSV with card, driver and versions. Needs neither Beam nor the
project's commands: PyTorch, DALI, timm, PyArrow and this checkout suffice. All parts take some six minutes on an H100;
`--quick` is a pass over few scans, which also runs on a CPU.
"""

import argparse
import csv
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from model.artifacts.saved_model import LoadedModel
from model.hardware import detect_hardware
from model.inputs.decoder import BatchDecoder
from model.scoring.engine_selection import EngineRequest
from model.scoring.scorer import Scorer
from model.scoring.scoring_network import BATCH_SIZES, ScoringNetwork, StartedBatch
from shards.host import installed_versions
from tests.bench.measure import Measurement, describe_hardware
from tests.bench.scoring import (
    forward_seconds,
    hours,
    make_model,
    make_scans,
    make_shards,
    rate_of,
    rival,
    score_all,
)

PARTS = ("decode", "forward", "end", "rival")
VERSIONED = ("nvidia-dali-cuda130", "numpy", "pyarrow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    backbones: tuple[str, ...] = ("tf_efficientnet_lite0", "resnet34", "resnet101")
    batch_sizes: tuple[int, ...] = (64, 256, 512)
    num_scans: int = 16_384
    """Of a pass end to end."""
    num_shards: int = 6
    num_rival_scans: int = 2_048
    num_images: int = 256
    """Different ones."""


QUICK = Plan(backbones=("resnet10t",), batch_sizes=(16,), num_scans=96, num_shards=3, num_rival_scans=32, num_images=16)


class Bench:
    """Scans, models and this machine."""

    def __init__(self, scratch: Path, plan: Plan) -> None:
        self.scratch, self.plan = scratch, plan
        self.hardware = detect_hardware()
        self.batch_size = min(BATCH_SIZES[self.hardware.device], max(plan.batch_sizes))
        self.images = make_scans(plan.num_images)
        self.shards = make_shards(scratch / "shards", self.images, plan.num_scans, plan.num_shards)
        self.rates: dict[str, float] = {}

    def model(self, backbone: str) -> LoadedModel:
        """Return CHR on a backbone, with random weights."""
        return make_model(self.scratch / backbone, backbone)

    def rate(self, what: str, value: float, beside: str = "") -> Measurement:
        """Note a rate, so that a later part may compare with it."""
        self.rates[what] = value
        return Measurement(what, value, "scans/s", beside)

    def decode(self) -> Iterator[Measurement]:
        """Measure decoding alone, of scans in memory, and together with reading and checking."""
        config = self.model(self.plan.backbones[0]).config.input
        for batch_size in self.plan.batch_sizes:
            decoder = BatchDecoder(config, self.hardware, batch_size)
            scans = list(itertools.islice(itertools.cycle(self.images), batch_size))
            num_batches = max(2, self.plan.num_scans // batch_size)
            decode_often(decoder, scans, 4)
            rate = rate_of(partial(decode_often, decoder, scans, num_batches), num_batches * batch_size)
            yield self.rate(f"decode alone, batch {batch_size}", rate)
        network = ScoringNetwork(self.model(self.plan.backbones[0]), self.hardware, batch_size=self.batch_size)
        yield self.rate(f"read, check and decode, batch {self.batch_size}", self.read_and_decode_rate(network))

    def forward(self) -> Iterator[Measurement]:
        """Measure the network alone, peaks and copy included, by dtype and batch; then eager PyTorch."""
        for backbone in self.plan.backbones:
            model = self.model(backbone)
            yield from self.plain_forward(backbone)
            for dtype, batch_size in itertools.product(("bfloat16", "float32"), self.plan.batch_sizes):
                request = EngineRequest(engine="eager", dtype=dtype)
                network = ScoringNetwork(model, self.hardware, request, batch_size)
                seconds = forward_seconds(network, batch_size, self.num_forward_batches(batch_size))
                yield self.rate(f"{backbone}: forward alone, {dtype}, batch {batch_size}", 1 / seconds)

    def num_forward_batches(self, batch_size: int) -> int:
        """Return how many batches are a fair sample of a network's speed."""
        return max(2, self.plan.num_scans // batch_size // 2)

    def plain_forward(self, backbone: str) -> Iterator[Measurement]:
        """Measure what a user would write: eager PyTorch in float32, and under autocast."""
        model = self.model(backbone)
        size, device = model.config.input.size_px, self.hardware.device
        images_BCHW = torch.randn(self.batch_size, 3, size, size, device=device)
        network = model.network.eval().to(device)
        num = self.num_forward_batches(self.batch_size)

        def run(num_batches: int) -> None:
            for _ in range(num_batches):
                network(images_BCHW).logits_BK.cpu()

        for dtype in ("bfloat16", "float32"):
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
                run(1)
                rate = rate_of(partial(run, num), num * self.batch_size)
            yield self.rate(f"{backbone}: plain eager forward, {dtype}, batch {self.batch_size}", rate)

    def end(self) -> Iterator[Measurement]:
        """Measure the scorer beside its parts, each alone in this part, and what a million scans take."""
        num = self.plan.num_scans
        for backbone in self.plan.backbones:
            model = self.model(backbone)
            started = time.perf_counter()
            network = ScoringNetwork(model, self.hardware, batch_size=self.batch_size)
            yield Measurement(f"{backbone}: engine {network.spec} ready", time.perf_counter() - started, "s")
            scorer = Scorer(network)
            decode_rate = self.read_and_decode_rate(network)
            seconds = forward_seconds(network, self.batch_size, self.num_forward_batches(self.batch_size))
            score_all(scorer, self.shards)
            began = time.process_time()
            rate = rate_of(partial(score_all, scorer, self.shards), num)
            cpu_us = (time.process_time() - began) / num * 1e6
            what = f"{backbone}, batch {self.batch_size}"
            yield self.rate(f"{what}: read, check and decode alone", decode_rate)
            yield self.rate(f"{what}: forward alone", 1 / seconds)
            yield self.rate(f"{what}: end to end", rate)
            yield Measurement(f"{what}: processor time of all threads", cpu_us, "us/scan")
            possible = min(decode_rate, 1 / seconds)
            yield Measurement(f"{what}: end to end / the slower part", rate / possible, "ratio", "aim: at least 0.9")
            yield Measurement(f"{what}: 1,059,231 scans", hours(rate) * 60, "minutes")
            if self.hardware.device == "cuda":
                yield Measurement(
                    f"{what}: memory of the GPU", torch.cuda.max_memory_allocated() / 1e9, "GB", "PyTorch's"
                )

    def read_and_decode_rate(self, network: ScoringNetwork) -> float:
        """Return the rate of the scorer without its network: the same stages, threads and depth."""
        scorer = Scorer(WithoutNetwork(network))  # type: ignore[arg-type]
        score_all(scorer, self.shards)
        return rate_of(lambda: score_all(scorer, self.shards), self.plan.num_scans)

    def rival(self) -> Iterator[Measurement]:
        """Measure DataLoader, Pillow and eager PyTorch, with a worker a core."""
        num = self.plan.num_rival_scans
        for backbone, dtype in itertools.product(self.plan.backbones, ("bfloat16", "float32")):
            model = self.model(backbone)
            hardware, batch_size = self.hardware, min(64, self.batch_size)
            rate = rate_of(partial(rival, self.images, num, model, hardware, batch_size, dtype), num)
            what = f"{backbone}: DataLoader + Pillow on {hardware.num_cores} cores + eager {dtype}"
            yield self.rate(what, rate, "start of the workers included")
            ours = self.rates.get(f"{backbone}, batch {self.batch_size}: end to end")
            if ours is not None:
                yield Measurement(f"{backbone}: end to end / DataLoader, {dtype}", ours / rate, "ratio")


class WithoutNetwork:
    """Stands for a network that takes no time."""

    def __init__(self, network: ScoringNetwork) -> None:
        self.config, self.hardware, self.spec = network.config, network.hardware, network.spec
        self.requested_batch_size, self.box_share = network.requested_batch_size, network.box_share

    def start(self, images_BCHW: torch.Tensor, sizes_px_B2: np.ndarray, windows_B4: np.ndarray) -> StartedBatch:
        """Return zeros."""
        num_classes = len(self.config.classes)
        packed_BP = torch.zeros(len(images_BCHW), num_classes * (5 + self.config.num_levels) + 2)
        return StartedBatch(packed_BP, None, num_classes, sizes_px_B2, windows_B4)


def decode_often(decoder: BatchDecoder, scans: Sequence[bytes], num_batches: int) -> None:
    """Decode the same batch many times."""
    for _ in decoder.decode_ahead((None, scans, None) for _ in range(num_batches)):
        pass


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure all of it; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        print("score_gpu: there is no GPU here, nothing is measured", file=sys.stderr)
        return
    bench = Bench(scratch, Plan())
    for part in PARTS:
        yield from getattr(bench, part)()


def describe_machine() -> str:
    """Return card, its driver and memory, and the processor in one line."""
    if not torch.cuda.is_available():
        return describe_hardware()
    words = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0"]
    card = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    versions = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{card or torch.cuda.get_device_name()}, {versions}; {describe_hardware()}"


def main() -> int:
    """Measure the parts that are named, or all; print every figure as it comes and write them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_score_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few scans and a small network")
    parser.add_argument("--backbone", action="append", help="instead of the three; repeatable")
    parser.add_argument("--out", type=Path, help="CSV to write")
    flags = parser.parse_args()
    if unknown := set(flags.parts) - set(PARTS):
        parser.error(f"part must be one of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    plan = QUICK if flags.quick else Plan()
    plan = replace(plan, backbones=tuple(flags.backbone)) if flags.backbone else plan
    found = installed_versions(*VERSIONED)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe_machine(),
        "versions": " ".join(f"{name}={version}" for name, version in found.items()),
    }
    print(*about.values(), sep="\n", flush=True)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), plan)
        for part in flags.parts or PARTS:
            started = time.perf_counter()
            for at in getattr(bench, part)():
                print(f"{at.what}: {at.value:,.4g} {at.unit} {at.beside}".rstrip(), flush=True)
                rows.append(asdict(at) | about)
                if flags.out:
                    write_csv(flags.out, rows)
            print(f"({part}: {time.perf_counter() - started:.0f} s)", flush=True)
    return 0


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write the rows, the first of which names the columns."""
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
