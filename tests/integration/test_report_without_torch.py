"""Run the commands of the extra `report` in a Python that cannot import PyTorch or anything that brings it."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/format1"
PREDICTIONS = GOLDEN / "predictions/chr-golden_resnet-71275f9e7d76"
BLOCKED = (
    "torch",
    "torchvision",
    "torchmetrics",
    "timm",
    "lightning",
    "nvidia",
    "safetensors",
    "tensorboard",
    "sklearn",
)
RUN_BLOCKED = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Block())
from pipelines.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_blocked(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN_BLOCKED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("options", [["--baseline", PREDICTIONS], ["--format", "markdown"]])
def test_evaluate_needs_no_pytorch(tmp_path, options):
    found = run_blocked(
        *("evaluate", "--predictions", PREDICTIONS, "--data", GOLDEN / "dataset", "--output", tmp_path),
        *("--bootstrap-rounds", 20, *options),
    )
    assert found.returncode == 0, found.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["num_scans"] > 0
    assert len(list(tmp_path.glob("report.*"))) == 1


def test_alarms_needs_no_pytorch(tmp_path):
    inputs = ["--predictions", PREDICTIONS, "--data", GOLDEN / "dataset"]
    rated = run_blocked("evaluate", *inputs, "--output", tmp_path / "report", "--bootstrap-rounds", 20)
    assert rated.returncode == 0, rated.stderr
    budget = ["--report", tmp_path / "report", "--false-alarms-per-1000", 50]
    found = run_blocked("alarms", *inputs, "--output", tmp_path, *budget)
    assert found.returncode == 0, found.stderr
    assert (
        json.loads((tmp_path / "alarms.json").read_text())["num_alarms"]
        == pq.read_table(tmp_path / "alarms.parquet").num_rows
    )


def test_label_levels_needs_no_pytorch(tmp_path):
    found = run_blocked(
        *("label-levels", "--predictions", PREDICTIONS, "--data", GOLDEN / "dataset"),
        *("--output", tmp_path / "labels.parquet"),
    )
    assert found.returncode == 0, found.stderr
    assert pq.read_table(tmp_path / "labels.parquet").num_rows > 0


def test_the_block_is_real(tmp_path):
    found = run_blocked("score", "--model", GOLDEN / "model", "--input", GOLDEN / "dataset", "--output", tmp_path)
    assert "is blocked" in found.stderr
