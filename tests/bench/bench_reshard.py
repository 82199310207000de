"""How fast are datasets sharded anew, beside `cp` of their shards?

Files as in `bench_convert`; both read from the page cache and end with `sync`. Start-up is taken out: that of `--help`.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.bench_convert import make_files, run_convert
from tests.bench.bench_million import run_measured
from tests.bench.measure import Measurement, time_in_turn

NUM_FILES = 20_000


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure the same shards copied, dealt to others, and filtered."""
    dataset, output = scratch / "dataset", scratch / "output"
    run_convert(make_files(scratch, NUM_FILES), dataset)
    size_bytes = sum(path.stat().st_size for path in dataset.glob("*/*.tar"))
    words = ["reshard", "--input", str(dataset), "--output", str(output)]
    seconds = time_in_turn(
        {
            "cp": _fresh(output, lambda: _shell(f"cp -r {dataset} {output}")),
            "same": _fresh(output, lambda: run_measured(*words)),
            "smaller": _fresh(output, lambda: run_measured(*words, "--shard-bytes", "100000000")),
            "half": _fresh(output, lambda: run_measured(*words, "--where", "hash(key) % 2 = 0")),
            "start-up": lambda: run_measured("reshard", "--help"),
        }
    )
    rate = {name: size_bytes / 1e6 / (seconds[name] - seconds["start-up"]) for name in ("same", "smaller")}
    rate["cp"] = size_bytes / 1e6 / seconds["cp"]
    yield Measurement("cp of the shards", rate["cp"], "MB/s")
    yield Measurement("reshard with its own settings", rate["same"], "MB/s")
    yield Measurement("reshard to shards of 100 MB", rate["smaller"], "MB/s")
    yield Measurement("reshard / cp", rate["smaller"] / rate["cp"], "ratio", "aim: at least 0.6")
    yield Measurement("reshard of every other scan by --where", seconds["half"] - seconds["start-up"], "s")
    yield Measurement("reshard, start-up", seconds["start-up"], "s")


def _fresh(output: Path, run_once: Callable[[], object]) -> Callable[[], None]:
    def run_and_sync() -> None:
        shutil.rmtree(output, ignore_errors=True)
        run_once()
        _shell("sync")

    return run_and_sync


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)
