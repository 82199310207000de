"""Run every command on generated scans as a user would."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import cli
from shards.format.dataset import open_dataset
from shards.predictions.run import open_predictions

# Warnings of whole commands are not errors here; unit tests are strict.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which every command has run once, on 30 generated scans."""
    root = tmp_path_factory.mktemp("commands")
    corpus, dataset, run, predictions = (str(root / name) for name in ("corpus", "dataset", "run", "predictions"))
    small = ["--recipe", "demo", "--max-epochs", "1", "--image-size", "64", "--backbone", "test_resnet"]
    small += ["--no-pretrained"]
    assert (
        cli.main(["synth", "--output", corpus, "--num-scans", "30", "--seed", "5", "--negatives-per-positive", "2"])
        == 0
    )
    assert cli.main(["convert", "--input", corpus, "--output", dataset, "--shard-bytes", "700000"]) == 0
    assert cli.main(["train", "--data", dataset, "--output", run, *small]) == 0
    assert cli.main(["score", "--model", f"{run}/model", "--input", dataset, "--output", predictions]) == 0
    return root


def scored(folder: Path) -> Path:
    (found,) = (folder / "predictions").iterdir()
    return found


def test_every_scan_of_the_corpus_is_scored(folder: Path) -> None:
    keys = {path.stem for path in (folder / "corpus" / "JPEGImage").iterdir()}
    rows = pq.read_table(sorted(scored(folder).glob("*.parquet")))
    assert len(rows) == 30
    assert set(rows["key"].to_pylist()) == keys


def test_verify_finds_dataset_and_predictions_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(folder / "dataset")]) == 0
    assert cli.main(["verify", str(scored(folder))]) == 0
    assert capsys.readouterr().out.count("whole: ") == 2


def test_verify_names_a_damaged_a_surplus_and_a_missing_part(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / scored(folder).name
    copy.mkdir()
    for path in scored(folder).glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    damaged, missing, *_ = sorted(copy.glob("*.parquet"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    missing.unlink()
    (copy / "notes.txt").write_text("not a part")
    assert cli.main(["verify", str(copy)]) == 1
    out = capsys.readouterr().out
    assert f"{damaged.name}: checksum_mismatch" in out
    assert f"{missing.name}: missing_file" in out
    assert "notes.txt: surplus_file" in out


def test_evaluate_writes_a_report_of_the_test_split(folder: Path) -> None:
    report = folder / "report"
    flags = ["--predictions", str(scored(folder)), "--data", str(folder / "dataset"), "--output", str(report)]
    assert cli.main(["evaluate", *flags]) == 0
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["num_scans"] == open_dataset(str(folder / "dataset")).manifest.ledger["test"].converted
    assert metrics["model_id"] == open_predictions(str(scored(folder))).model_id
    assert (report / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("what", ["dataset", "run/model", "predictions"])
def test_info_says_what_each_folder_is(folder: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = scored(folder) if what == "predictions" else folder / what
    assert cli.main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == what.rpartition("/")[2]
