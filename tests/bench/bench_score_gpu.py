"""Measure scoring on a GPU: decode, forward, end to end, beside DataLoader and Pillow.

Prints nothing without a GPU. `python -m tests.bench.bench_score_gpu [--num-scans N]` needs neither Beam nor the
command line of the project: PyTorch, DALI, timm, PyArrow and this checkout suffice.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from model.artifacts.saved_model import LoadedModel
from model.hardware import Hardware, detect_hardware
from model.inputs.decoder import BatchDecoder
from model.scoring.scorer import Scorer, ScoringNetwork
from shards.format.dataset import Dataset
from tests.bench.measure import Measurement
from tests.bench.scoring import (
    decode_all,
    forward_seconds,
    hours,
    make_model,
    make_scans,
    make_shards,
    rate_of,
    rival,
    score_all,
)

BACKBONES = ("resnet34", "resnet101")
BATCH_SIZES = (64, 128, 256, 512)
NUM_SCANS = 16_384
NUM_RIVAL_SCANS = 4_096


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure every backbone at every batch size; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        print("score_gpu: there is no GPU here, nothing is measured", file=sys.stderr)
        return
    hardware = detect_hardware()
    images = make_scans(256)
    shards = make_shards(scratch / "shards", images, NUM_SCANS, 4)
    for backbone in BACKBONES:
        model = make_model(scratch / backbone, backbone)
        rates = {}
        for batch_size in BATCH_SIZES:
            found = list(measure_batch_size(model, shards, hardware, batch_size))
            rates[batch_size] = found[2].value
            yield from (Measurement(f"{backbone}, {at.what}", at.value, at.unit, at.beside) for at in found)
        best = max(rates, key=lambda batch_size: rates[batch_size])
        yield Measurement(f"{backbone}, 1,059,231 scans at batch {best}", hours(rates[best]), "hours")
        rival_rate = rate_of(partial(rival, images, NUM_RIVAL_SCANS, model, hardware, best), NUM_RIVAL_SCANS)
        what = f"{backbone}, DataLoader + Pillow on {hardware.num_cores} cores + eager float32 at batch {best}"
        yield Measurement(what, rival_rate, "scans/s")
        yield Measurement(f"{backbone}, end to end / DataLoader", rates[best] / rival_rate, "ratio")


def measure_batch_size(
    model: LoadedModel, shards: Dataset, hardware: Hardware, batch_size: int
) -> Iterator[Measurement]:
    """Measure the parts alone and together, each after a first pass that is not counted."""
    network = ScoringNetwork(model, hardware)
    scorer, decoder = Scorer(network, batch_size), BatchDecoder(model.config.input, hardware, batch_size)
    decode_all(decoder, shards, batch_size)
    decode_rate = rate_of(lambda: decode_all(decoder, shards, batch_size), NUM_SCANS)
    forward_rate = 1 / forward_seconds(network, batch_size, max(4, NUM_SCANS // batch_size // 4))
    score_all(scorer, shards)
    rate = rate_of(lambda: score_all(scorer, shards), NUM_SCANS)
    yield Measurement(f"batch {batch_size}: read, check and decode alone", decode_rate, "scans/s")
    yield Measurement(f"batch {batch_size}: forward alone, {hardware.dtype}", forward_rate, "scans/s")
    yield Measurement(f"batch {batch_size}: end to end", rate, "scans/s")
    slower = min(decode_rate, forward_rate)
    yield Measurement(f"batch {batch_size}: end to end / the slower part", rate / slower, "ratio", "aim: at least 0.9")


def main() -> int:
    """Print every figure as it comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_score_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--num-scans", type=int, default=NUM_SCANS, help="scans of each pass")
    globals()["NUM_SCANS"] = parser.parse_args().num_scans
    with tempfile.TemporaryDirectory() as scratch:
        for at in run(Path(scratch)):
            print(f"{at.what}: {at.value:,.4g} {at.unit} {at.beside}".rstrip(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
