"""Tests of the wheel: it holds all data files and works where plain pip installs it into an empty environment."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
PACKAGES = ("shards", "model", "pipelines")
GOLDEN = ROOT / "tests/golden/format1"


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """Return a folder with the sdist and the wheel, as `make build` makes them."""
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".bootstrap/uv")
    folder: Path = tmp_path_factory.mktemp("dist")
    subprocess.run([uv, "build", "--quiet", "--out-dir", folder, ROOT], check=True)
    return folder


@pytest.fixture(scope="module")
def plain(dist, tmp_path_factory) -> Path:
    """Return the programs of an environment in which the wheel is installed without extras."""
    return install(dist, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def analyst(dist, tmp_path_factory) -> Path:
    """Return the programs of an environment in which the wheel is installed with the extra `report`."""
    return install(dist, tmp_path_factory.mktemp("report"), "[report]")


def install(dist: Path, folder: Path, extras: str = "") -> Path:
    (wheel,) = dist.glob("*.whl")
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    subprocess.run([python, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", f"{wheel}{extras}"], check=True)
    return folder / "bin"


def run(programs: Path, words: Sequence[object], cwd: Path) -> str:
    """Run a program outside the checkout; return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    program, *rest = map(str, words)
    done = subprocess.run(
        [programs / program, *rest], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_absent(programs: Path, modules: Sequence[str], cwd: Path) -> None:
    code = f"from importlib.util import find_spec; print([name for name in {list(modules)} if find_spec(name)])"
    assert run(programs, ["python", "-c", code], cwd) == "[]\n"


def test_wheel_and_sdist_hold_every_file_of_the_packages(dist):
    words = ["git", "-C", str(ROOT), "ls-files", *PACKAGES]
    tracked = set(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
    assert {name for name in names if ".dist-info/" not in name} == tracked
    with tarfile.open(sdist) as archive:
        assert {name.partition("/")[2] for name in archive.getnames()} >= tracked


def test_without_extras_a_corpus_is_generated_converted_and_verified(plain, tmp_path):
    check_absent(plain, ["torch", "nvidia", "matplotlib"], tmp_path)
    assert "sixray COMMAND" in run(plain, ["sixray", "--help"], tmp_path)
    run(plain, ["sixray", "synth", "--output", "corpus", "--num-scans", 20, "--negatives-per-positive", 2], tmp_path)
    run(plain, ["sixray", "convert", "--input", "corpus", "--output", "dataset"], tmp_path)
    assert run(plain, ["sixray", "verify", "dataset"], tmp_path).startswith("whole: ")


def test_with_the_extra_for_reports_predictions_are_evaluated_without_pytorch(analyst, tmp_path):
    check_absent(analyst, ["torch", "nvidia"], tmp_path)
    (predictions,) = (GOLDEN / "predictions").iterdir()
    words = ["--predictions", predictions, "--output"]
    run(analyst, ["sixray", "evaluate", *words, "report", "--data", GOLDEN / "dataset"], tmp_path)
    assert (tmp_path / "report/report.html").read_text().startswith("<!doctype html>")
    run(analyst, ["sixray", "alarms", *words, "alarms", "--threshold", "Gun=0.5"], tmp_path)
    assert (tmp_path / "alarms/alarms.csv").exists()
