"""Measure resharding of datasets beside `cp` of their shards.

Files as in `bench_convert`; both read from the page cache and end with `sync`. Start-up is excluded: the time of
a tenth of the files is subtracted from that of all. Medians of ten rounds.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.bench_convert import make_files, run_convert
from tests.bench.bench_million import run_measured
from tests.bench.measure import Measurement, time_in_turn

NUM_FILES = 20_000
NUM_ROUNDS = 10


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure the same shards copied, dealt to others, and filtered."""
    contenders = {
        "cp": lambda dataset, output: _shell(f"cp -r {dataset} {output}"),
        "same": lambda dataset, output: _reshard(dataset, output),
        "smaller": lambda dataset, output: _reshard(dataset, output, "--shard-bytes", "100000000"),
        "half": lambda dataset, output: _reshard(dataset, output, "--where", "hash(key) % 2 = 0"),
    }
    datasets = {}
    for share in ("tenth", "all"):
        datasets[share] = scratch / f"dataset-{share}"
        run_convert(make_files(scratch, NUM_FILES // (10 if share == "tenth" else 1)), datasets[share])
    seconds = time_in_turn(
        {
            f"{name} {share}": _fresh(contender, dataset, scratch / "output")
            for name, contender in contenders.items()
            for share, dataset in datasets.items()
        },
        NUM_ROUNDS,
    )
    num_bytes = {share: sum(path.stat().st_size for path in it.glob("*/*.tar")) for share, it in datasets.items()}
    megabytes = (num_bytes["all"] - num_bytes["tenth"]) / 1e6
    rate = {name: megabytes / (seconds[f"{name} all"] - seconds[f"{name} tenth"]) for name in contenders}
    yield Measurement("cp of the shards", rate["cp"], "MB/s")
    yield Measurement("reshard with its own settings", rate["same"], "MB/s")
    yield Measurement("reshard to shards of 100 MB", rate["smaller"], "MB/s")
    yield Measurement("reshard / cp", rate["smaller"] / rate["cp"], "ratio", "aim: at least 0.6")
    yield Measurement("reshard of every other scan by --where, of all bytes", rate["half"], "MB/s")
    yield Measurement("reshard, start-up", seconds["smaller tenth"] - megabytes / 9 / rate["smaller"], "s")


def _reshard(dataset: Path, output: Path, *flags: str) -> None:
    run_measured("reshard", "--input", str(dataset), "--output", str(output), *flags)


def _fresh(contender: Callable[[Path, Path], None], dataset: Path, output: Path) -> Callable[[], None]:
    def run_and_sync() -> None:
        shutil.rmtree(output, ignore_errors=True)
        contender(dataset, output)
        _shell("sync")

    return run_and_sync


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)
