"""Measure the overhead of an engine: a conversion embedded, on Prism, on Flink with 1 and 2 workers.

Input and output lie in an S3 store on loopback. Everything shares the cores of this machine, so two TaskManagers show
the engine's overhead, not the gain of a second machine. A few scans give the fixed job cost, many the cost per scan.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.local.cluster import Cluster, make_config
from deploy.local.fetch import CLUSTER, FOLDER, fetch
from deploy.local.processes import pid_of
from deploy.local.services import Ports
from tests.bench.measure import Measurement, Peak
from tests.corpora import CorpusWriter, jpeg_bytes

NUM_FEW, NUM_MANY = 40, 4000
_SIZE_PX = (800, 600)
_SHARD_BYTES = "16000000"


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure both corpora on every engine; nothing where there is no Java, Maven or Go."""
    if not all(shutil.which(program) for program in ("java", "mvn", "go")):
        print("cluster: needs Java, Maven and Go", file=sys.stderr)
        return
    fetch([*CLUSTER, "prism"])
    prism = ["--runner=PrismRunner", f"--prism_location={FOLDER}/bin/prism", "--prism_log_level=warn"]
    for num_workers in (1, 2):
        cluster = Cluster(make_config(scratch / f"cluster-{num_workers}", Ports.free(), num_workers))
        try:
            cluster.up()
            make_corpora(cluster.folder / "buckets" / "bench")
            if num_workers == 1:
                yield from measure("embedded runner", cluster, [])
                yield from measure("Prism", cluster, prism)
            name = f"Flink, {num_workers} TaskManager{'s' if num_workers > 1 else ''}"
            yield from measure(name, cluster, cluster.config.beam_options())
        finally:
            cluster.down()


def make_corpora(bucket: Path) -> None:
    """Write a corpus of few and one of many scans, images alone, no two alike."""
    for num_scans in (NUM_FEW, NUM_MANY):
        corpus = CorpusWriter(bucket / f"corpus-{num_scans}")
        image = jpeg_bytes(7, _SIZE_PX)
        for number in range(num_scans):
            comment = f"\xff\xfe\x00\x0a{number:08d}".encode("latin-1")
            corpus.add_image(f"N{number:07d}", image[:2] + comment + image[2:])


def measure(name: str, cluster: Cluster, beam: Sequence[str]) -> Iterator[Measurement]:
    """Yield what one engine takes for both corpora; the first job of a cluster, which warms it, is not counted."""
    if "Flink" in name:
        convert(cluster, NUM_FEW, beam, "warm")
    few_seconds, _ = convert(cluster, NUM_FEW, beam, name)
    many_seconds, peak_mb = convert(cluster, NUM_MANY, beam, name)
    rate = (NUM_MANY - NUM_FEW) / (many_seconds - few_seconds)
    image_kb = len(jpeg_bytes(7, _SIZE_PX)) / 1000
    yield Measurement(f"{name}: {NUM_FEW} scans", few_seconds, "s", "what every job takes")
    yield Measurement(f"{name}: {NUM_MANY:,} scans", many_seconds, "s", f"of {image_kb:.0f} kB")
    yield Measurement(f"{name}: scans a second, start not counted", rate, "scans/s")
    yield Measurement(f"{name}: peak memory", peak_mb, "MB", "the command, the engine and its workers; not the store")


def convert(cluster: Cluster, num_scans: int, beam: Sequence[str], name: str) -> tuple[float, float]:
    """Return the seconds of one conversion, and the most memory that all its processes had at once."""
    output = f"s3://bench/{name.replace(' ', '-').replace(',', '')}-{num_scans}"
    words = ["--input", f"s3://bench/corpus-{num_scans}", "--output", output, "--shard-bytes", _SHARD_BYTES]
    words += ["--layout=images", *(["--", *beam] if beam else [])]
    variables = os.environ | cluster.config.s3_variables()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.convert", *words],
        env=variables,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    engine = (
        [pid_of(service, cluster.folder) for service in cluster.services if service != "s3"] if "Flink" in name else []
    )
    with process, Peak([process.pid, *(pid for pid in engine if pid is not None)]) as peak:
        if process.wait() != 0:
            raise RuntimeError(f"conversion must end well, got exit code {process.returncode} ({name})")
        return time.perf_counter() - started, peak.megabytes
