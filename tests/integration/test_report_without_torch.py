"""Run the commands of the extra `report` in a Python that cannot import PyTorch or anything that brings it."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

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
import json, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Block())
from pipelines.cli import main
for words in json.loads(sys.argv[1]):
    if code := main(words):
        sys.exit(code)
"""


def test_evaluate_alarms_and_label_levels_need_no_pytorch(tmp_path):
    """One process runs all, and at its end a command that needs PyTorch, which shows that the block is real."""
    page, markdown, alarms, labels = (tmp_path / name for name in ("page", "markdown", "alarms", "labels.parquet"))
    inputs = ["--predictions", PREDICTIONS, "--data", GOLDEN / "dataset"]
    evaluate = ["evaluate", *inputs, "--bootstrap-rounds", 20]
    commands = [
        [*evaluate, "--output", page, "--baseline", PREDICTIONS],
        [*evaluate, "--output", markdown, "--format", "markdown"],
        ["alarms", *inputs, "--output", alarms, "--report", page, "--false-alarms-per-1000", 50],
        ["label-levels", *inputs, "--output", labels],
        ["review", *inputs, "--output", tmp_path / "review"],
        ["score", "--model", GOLDEN / "model", "--input", GOLDEN / "dataset", "--output", tmp_path / "scored"],
    ]
    words = json.dumps([[str(word) for word in command] for command in commands])
    found = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKED, words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert found.returncode != 0 and "is blocked" in found.stderr, found.stderr
    assert not (tmp_path / "scored").exists()
    for report in (page, markdown):
        assert json.loads((report / "metrics.json").read_text())["num_scans"] > 0, found.stderr
        assert len(list(report.glob("report.*"))) == 1
    num_alarms = json.loads((alarms / "alarms.json").read_text())["num_alarms"]
    assert num_alarms == pq.read_table(alarms / "alarms.parquet").num_rows
    assert pq.read_table(labels).num_rows > 0
