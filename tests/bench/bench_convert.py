"""Measure conversion beside tar, cp, a plain loop, webdataset's writer and LitData, and verification beside sha256sum.

Files have the release's sizes (log-normal, median 90 kB): a generated JPEG, brought to its size by comment segments.
Every contender reads the same files and ends with `sync`. Start-up is excluded: the time of a tenth of the files is
subtracted from that of all; it is reported separately. Medians of ten rounds. `make bench` installs LitData.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import webdataset

from pipelines.synth import SynthConfig, generate_corpus
from tests.bench.measure import Measurement, time_in_turn

NUM_FILES = 20_000
NUM_ROUNDS = 10


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure conversion and verification."""
    few, many = make_files(scratch, NUM_FILES // 10), make_files(scratch, NUM_FILES)
    seconds = time_in_turn(
        {
            f"{name} {folder.name}": _timed(contender, folder, scratch)
            for name, contender in CONTENDERS.items()
            for folder in (few, many)
        },
        NUM_ROUNDS,
    )
    num = NUM_FILES - NUM_FILES // 10
    rate = {name: num / (seconds[f"{name} {many.name}"] - seconds[f"{name} {few.name}"]) for name in CONTENDERS}
    for name, what in _WHAT.items():
        yield Measurement(what, rate[name], "files/s")
        yield Measurement(f"{what}: start-up", seconds[f"{name} {few.name}"] - num / 9 / rate[name], "s")
    for name, aim in {"tar": "at least 1.2", "loop": "1", "webdataset": "above 1", "litdata": "above 1"}.items():
        yield Measurement(f"sixray convert / {_WHAT[name]}", rate["convert"] / rate[name], "ratio", f"aim: {aim}")
    yield from measure_verify(many, scratch)


def measure_verify(files: Path, scratch: Path) -> Iterator[Measurement]:
    """Measure `sixray verify` beside sha256sum of the same shards."""
    dataset = scratch / "dataset"
    run_convert(files, dataset)
    seconds = time_in_turn(
        {
            "sha256sum": lambda: _shell(f"sha256sum {dataset}/*/*.tar > /dev/null"),
            "verify": lambda: _sixray("verify", str(dataset)),
            "start-up": lambda: _sixray("verify", "--help"),
        }
    )
    ratio = seconds["sha256sum"] / (seconds["verify"] - seconds["start-up"])
    yield Measurement("sixray verify / sha256sum, start-up taken out", ratio, "ratio", "aim: at least 1.2")


def make_files(scratch: Path, num_files: int) -> Path:
    """Write `num_files` JPEGs of the release's sizes; return the folder that holds JPEGImage."""
    seeds = scratch / "seeds"
    if not seeds.exists():
        generate_corpus(SynthConfig(output=str(seeds), num_scans=64, seed=5))
    bodies = [path.read_bytes()[:-2] for path in sorted((seeds / "JPEGImage").glob("*.jpg"))]
    folder = scratch / f"{num_files}-files"
    (folder / "JPEGImage").mkdir(parents=True)
    sizes = random.Random(1)
    for number in range(num_files):
        size = min(max(int(sizes.lognormvariate(11.4, 0.45)), 8000), 400_000)
        content = bytearray(bodies[number % len(bodies)])
        while (missing := size - len(content)) > 10:
            length = min(missing - 4, 60_000)
            content += b"\xff\xfe" + (length + 2).to_bytes(2, "big") + os.urandom(length)
        (folder / "JPEGImage" / f"N{number:07d}.jpg").write_bytes(content + b"\xff\xd9")
    os.sync()
    return folder


def run_tar(files: Path, output: Path) -> None:
    """Pack by GNU tar."""
    output.mkdir()
    subprocess.run(["tar", "cf", output / "all.tar", "-C", files, "JPEGImage"], check=True)


def run_cp(files: Path, output: Path) -> None:
    """Copy the files as they are."""
    subprocess.run(["cp", "-r", files, output], check=True)


def run_loop(files: Path, output: Path) -> None:
    """Pack by a loop that two threads share: read, sha256, header, write, each thread to a tar of its own."""
    output.mkdir()
    paths = iter(sorted((files / "JPEGImage").iterdir()))
    lock = threading.Lock()

    def pack(name: str) -> None:
        digests = []
        with (output / name).open("wb") as tar:
            while True:
                with lock:
                    path = next(paths, None)
                if path is None:
                    break
                content = path.read_bytes()
                digests.append(hashlib.sha256(content).hexdigest())
                member = tarfile.TarInfo(path.name)
                member.size = len(content)
                tar.write(member.tobuf(tarfile.USTAR_FORMAT))
                tar.write(content)
                tar.write(bytes(-len(content) % tarfile.BLOCKSIZE))
            tar.write(bytes(2 * tarfile.BLOCKSIZE))
        (output / f"{name}.sha256").write_text("\n".join(digests))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(pack, ("0.tar", "1.tar")))


def run_webdataset(files: Path, output: Path) -> None:
    """Pack by the loop that webdataset's documentation shows."""
    output.mkdir()
    with webdataset.ShardWriter(f"{output}/%05d.tar", maxsize=256 * 1024 * 1024, encoder=False, verbose=0) as writer:
        for path in sorted((files / "JPEGImage").iterdir()):
            writer.write({"__key__": path.stem, "jpg": path.read_bytes(), "json": b"{}"})


def run_litdata(files: Path, output: Path) -> None:
    """Pack by LitData, a worker a core."""
    script = Path(__file__).with_name("litdata_optimize.py")
    _quietly([sys.executable, script, files, output])


def run_convert(files: Path, output: Path) -> None:
    """Convert as a user would."""
    _sixray("convert", "--input", str(files), "--output", str(output), "--layout", "images")


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "tar": run_tar,
    "cp": run_cp,
    "loop": run_loop,
    "webdataset": run_webdataset,
    "litdata": run_litdata,
    "convert": run_convert,
}
_WHAT = {
    "tar": "GNU tar",
    "cp": "cp of the files",
    "loop": "a loop of two threads, sha256",
    "webdataset": "webdataset.ShardWriter in a loop, no checksums",
    "litdata": "LitData's optimize, a worker a core, no checksums",
    "convert": "sixray convert, checksums on",
}


def _timed(contender: Callable[[Path, Path], None], files: Path, scratch: Path) -> Callable[[], None]:
    def run_once() -> None:
        # Removing the last output is not part of the work, but takes as long for each contender.
        output = scratch / "output"
        shutil.rmtree(output, ignore_errors=True)
        contender(files, output)
        os.sync()

    return run_once


def _sixray(*words: str) -> None:
    _quietly([sys.executable, "-m", "pipelines.cli", *words])


def _quietly(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)
