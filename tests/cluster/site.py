"""A cluster for tests: buckets are local folders, and a proxy that can fail sits before the store."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.cluster import Cluster
from tests.corpora import files_of
from tests.services import Plan

BUCKET = "bucket"
LIMIT_SECONDS = 420
"""Of one command: a job that hangs fails its test only."""


@dataclass(frozen=True)
class Result:
    """Exit code and output of a command."""

    code: int
    out: str
    log: str


@dataclass(frozen=True)
class Site:
    """A running cluster, the proxy's plan, and the store's only bucket."""

    cluster: Cluster
    plan: Plan

    @property
    def bucket(self) -> Path:
        """The local folder of the bucket."""
        return self.cluster.folder / "buckets" / BUCKET

    @property
    def flink(self) -> list[str]:
        """Beam options for Flink."""
        return self.cluster.config.beam_options()

    @property
    def prism(self) -> list[str]:
        """Beam options for Prism."""
        program = f"{self.cluster.config.programs}/bin/prism"
        return ["--runner=PrismRunner", f"--prism_location={program}", "--prism_log_level=warn"]

    def url(self, name: str) -> str:
        """Return the URL of a folder of the bucket."""
        return f"s3://{BUCKET}/{name}"

    def files(self, name: str) -> dict[str, bytes]:
        """Return every file of a folder of the bucket."""
        return files_of(self.bucket / name)

    def put(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write files into a folder of the bucket."""
        for file, data in files.items():
            path = self.bucket / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def start(self, *words: str, beam: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """Start a `sixray` command; Beam's options follow the lone `--`."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words, *(["--", *beam] if beam else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.cluster.config.s3_variables(),
        )

    def run(self, *words: str, beam: Sequence[str] = ()) -> Result:
        """Run a `sixray` command to its end."""
        return finish(self.start(*words, beam=beam))


def finish(process: "subprocess.Popen[str]") -> Result:
    """Wait for a command to end; kill it and raise when it exceeds the limit."""
    with process:
        try:
            out, log = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return Result(process.returncode, out, log)


def convert_words(site: Site, output: str) -> list[str]:
    """Return the conversion of the tests' corpus into a folder of the bucket."""
    own = ["--input", site.url("corpus"), "--output", site.url(output), "--shard-bytes=15000"]
    return ["convert", *own, "--max-quarantine-fraction=1"]
