"""Measure decoding on a GPU by its settings: share of the JPEG engines, batch, threads, pipelines; and one bad image.

    python -m tests.bench.bench_decode_gpu [--num-scans N]

Prints nothing without a GPU. Needs neither Beam nor the project's commands, and some two minutes on an H100.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch

from model.hardware import Hardware, detect_hardware
from model.inputs.decoder import BatchDecoder, use_on_current_stream
from model.networks.config import InputConfig
from tests.bench.measure import Measurement
from tests.bench.scoring import make_scans
from tests.shards.by_hand import bogus_huffman

NUM_SCANS = 8_192
SETTINGS = {
    "share of the JPEG engines": "model.inputs.dali_graphs.HW_DECODER_LOAD",
    "pipelines": "model.inputs.decoder._GPU_PIPELINES",
    "threads": "model.inputs.dali_pipeline._MAX_GPU_THREADS",
}
CHANGES: tuple[dict[str, float], ...] = (
    {},
    {"share of the JPEG engines": 0.65},
    {"share of the JPEG engines": 0.9},
    {"pipelines": 1},
    {"pipelines": 3},
    {"threads": 4},
    {"threads": 12},
    {"pipelines": 3, "threads": 5},
    {"batch": 64},
    {"batch": 128},
    {"batch": 512},
)


def run(_scratch: Path) -> Iterator[Measurement]:
    """Measure the settings one by one, then what a bad image and a new pipeline cost."""
    if not torch.cuda.is_available():
        print("decode_gpu: there is no GPU here, nothing is measured", file=sys.stderr)
        return
    hardware, images = detect_hardware(), make_scans(256)
    for change in CHANGES:
        words = ", ".join(f"{name} {value:g}" for name, value in change.items()) or "as it is"
        yield Measurement(f"decode: {words}", rate_with(change, hardware, images), "scans/s", hardware.name)
    yield from trouble(hardware, images)


def rate_with(change: dict[str, float], hardware: Hardware, images: list[bytes]) -> float:
    """Return scans a second with some settings changed, after four batches that are not counted."""
    batch_size = int(change.get("batch", 256))
    scans = list(itertools.islice(itertools.cycle(images), batch_size))
    with ExitStack() as stack:
        for name, value in change.items():
            if name in SETTINGS:
                stack.enter_context(mock.patch(SETTINGS[name], value))
        decoder = BatchDecoder(InputConfig(), hardware, batch_size)
        decode_often(decoder, scans, 8)
        num_batches = max(8, NUM_SCANS // batch_size)
        started = time.perf_counter()
        decode_often(decoder, scans, num_batches)
        return num_batches * batch_size / (time.perf_counter() - started)


def decode_often(decoder: BatchDecoder, scans: list[bytes], num_batches: int) -> None:
    """Decode a batch again and again, ahead of a reader that does nothing."""
    for _, decoded in decoder.decode_ahead((n, scans, None) for n in range(num_batches)):
        use_on_current_stream(decoded.images_BCHW)
    torch.cuda.synchronize()


def trouble(hardware: Hardware, images: list[bytes]) -> Iterator[Measurement]:
    """Measure a decoder's first batch, a batch with one bad image, and a pipeline built anew."""
    started = time.perf_counter()
    decoder = BatchDecoder(InputConfig(), hardware, len(images))
    yield Measurement("decoder built", time.perf_counter() - started, "s")
    for name, scans in (
        ("first batch", images),
        ("second batch", images),
        ("batch with one bad image", [*images[:17], bogus_huffman(images[17]), *images[18:]]),
        ("batch with a truncated image", [*images[:17], images[17][: len(images[17]) // 2], *images[18:]]),
    ):
        started = time.perf_counter()
        errors = decoder.decode(scans).errors
        yield Measurement(name, time.perf_counter() - started, "s", f"refused: {sorted(errors)}")
    started = time.perf_counter()
    decoder._rebuild(0)
    yield Measurement("pipeline built anew, another one being there", time.perf_counter() - started, "s")


def main() -> int:
    """Print every figure as it comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_decode_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--num-scans", type=int, default=NUM_SCANS, help="scans of each setting")
    globals()["NUM_SCANS"] = parser.parse_args().num_scans
    for at in run(Path()):
        print(f"{at.what}: {at.value:,.4g} {at.unit} {at.beside}".rstrip(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
