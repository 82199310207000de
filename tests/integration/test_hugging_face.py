"""Read shards with the WebDataset loader of Hugging Face datasets, in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.convert import convert_corpus
from pipelines.steps.corpus_job import ConvertConfig
from shards.corpus.policy import Policy
from tests.corpora import CorpusWriter, jpeg_bytes, png_bytes, rows_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="Hugging Face datasets is not installed"),
]

README = Path(__file__).parents[2] / "shards" / "README.md"
PRINT_ROWS = """
rows = [{"key": row["__key__"], "size": (row.get("jpg") or row["png"]).size, "json": row["json"]} for row in dataset]
print(json.dumps(rows))
"""
WITHOUT_FEATURES = """
import glob, json
from datasets import load_dataset
dataset = load_dataset("webdataset", data_files={"train": sorted(glob.glob("DATASET/train/*.tar"))}, split="train")
"""


def run(code: str, dataset: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    code = code.replace("DATASET", str(dataset)) + PRINT_ROWS
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


def code_of_readme() -> str:
    (code,) = (text.partition("```")[0] for text in README.read_text().split("```python")[1:] if "load_dataset" in text)
    return code


def convert(corpus: CorpusWriter, output: Path, *, transcode: bool = False) -> None:
    convert_corpus(ConvertConfig(input=str(corpus.root), output=str(output), policy=Policy(transcode=transcode)))


@pytest.fixture
def corpus(tmp_path):
    """Many scans without boxes, and a few with."""
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(40):
        corpus.add_scan(f"N{number:05d}")
    for number in range(3):
        corpus.add_scan(f"P{number:05d}", ["Gun"])
    return corpus


def test_the_code_of_the_readme_reads_every_scan_wherever_the_first_boxes_stand(corpus, tmp_path):
    convert(corpus, tmp_path / "ds")
    done = run(code_of_readme(), tmp_path / "ds", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {row["key"]: row["json"] for row in json.loads(done.stdout)}
    for row in rows_of(tmp_path / "ds"):
        assert found[row["key"]]["labels"] == row["labels"]
        assert found[row["key"]]["boxes"] == row["boxes"]


def test_mixed_formats_are_refused_and_transcoded_ones_read(corpus, tmp_path):
    for number in range(20):
        corpus.add_image(f"G{number:05d}", png_bytes(number), suffix=".png")
        corpus.add_image(f"J{number:05d}", jpeg_bytes(number))
        for stem in (f"G{number:05d}", f"J{number:05d}"):
            corpus.add_row(stem, ["Gun"])
            corpus.add_annotation(stem, [("Gun", 1, 2, 20, 25)])
    convert(corpus, tmp_path / "mixed")
    done = run(WITHOUT_FEATURES, tmp_path / "mixed", tmp_path)
    assert "don't share the same prefix or the same types" in done.stderr
    convert(corpus, tmp_path / "one", transcode=True)
    done = run(code_of_readme(), tmp_path / "one", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads(done.stdout)) == 83
