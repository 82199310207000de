"""Run an image folder with one class per image through every command, to top-1 accuracy."""

import json
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.convert import convert_corpus
from pipelines.steps.corpus_job import ConvertConfig
from shards.format.dataset import open_dataset
from tests.corpora import files_of, jpeg_bytes, payload_of, reasons_of, rows_of

# Warnings of whole commands are not errors here; unit tests are strict.
pytestmark = pytest.mark.filterwarnings("default")

WORDNET_IDS = ("n01440764", "n01443537", "n02099601")
NUM_TRAIN, NUM_VAL = 10, 3
"""Per class."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only folder in the layout of ILSVRC2012, with a grey and a CMYK JPEG as in the original."""
    root = tmp_path_factory.mktemp("ILSVRC2012")
    for number, wordnet_id in enumerate(WORDNET_IDS):
        paths = [root / "train" / wordnet_id / f"{wordnet_id}_{at}.JPEG" for at in range(NUM_TRAIN)]
        first = number * NUM_VAL + 1
        names = [f"ILSVRC2012_val_{at:08d}.JPEG" for at in range(first, first + NUM_VAL)]
        paths += [root / "val" / wordnet_id / name for name in names]
        for at, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = {0: "L", 1: "CMYK"}.get(at % NUM_TRAIN, "RGB")
            path.write_bytes(jpeg_bytes(100 * number + at, (72, 64), mode))
    return root


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which every command has run once on them."""
    root = tmp_path_factory.mktemp("commands")
    dataset, run, predictions = (str(root / name) for name in ("dataset", "run", "predictions"))
    small = ["--backbone", "test_resnet", "--image-size", "64", "--batch-size", "8", "--validation-fraction", "0.2"]
    recipe = ["--recipe", "chr_resnet18_ilsvrc2012", "--max-epochs", "1", *small]
    assert cli.main(["convert", "--input", str(corpus), "--output", dataset]) == 0
    assert cli.main(["verify", dataset]) == 0
    assert cli.main(["train", "--data", dataset, "--output", run, *recipe]) == 0
    assert cli.main(["score", "--model", f"{run}/model", "--input", dataset, "--output", predictions]) == 0
    (scored,) = (root / "predictions").iterdir()
    flags = ["--predictions", str(scored), "--data", dataset, "--output", str(root / "report")]
    assert cli.main(["evaluate", *flags, "--split", "val"]) == 0
    return root


def test_every_image_is_a_sample_of_its_split_with_exactly_one_class(folder: Path) -> None:
    manifest = open_dataset(str(folder / "dataset")).manifest
    assert manifest.scored_classes == manifest.classes == WORDNET_IDS
    assert {split: of.converted for split, of in manifest.ledger.items()} == {"train": 30, "val": 9}
    for row in rows_of(folder / "dataset"):
        split, wordnet_id, _ = row["key"].split("%2F")
        assert row["split"] == split
        assert row["labels"] == {name: int(name == wordnet_id) for name in WORDNET_IDS}


def test_the_network_learns_by_a_soft_max_and_is_chosen_by_top_1_accuracy(folder: Path) -> None:
    provenance = json.loads((folder / "run" / "model" / "config.json").read_text())["provenance"]
    assert provenance["config"]["loss"] == {"name": "SoftmaxConfig"}
    assert 0 <= provenance["validation_top1_accuracy"] <= 1


def test_the_report_says_how_often_the_class_is_guessed(folder: Path) -> None:
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["num_scans"] == 9
    found = metrics["single_label"]
    low, high = found["intervals"]["top1_accuracy"].values()
    assert low <= found["top1_accuracy"] <= high
    assert "Top-1 accuracy" in (folder / "report" / "report.html").read_text()


def test_files_that_cannot_be_taken_are_a_row_of_quarantine_each(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    files = {
        "train/cat/1.jpg": jpeg_bytes(1),
        "train/cat/1.png": jpeg_bytes(2),
        "train/dog/1.jpg": jpeg_bytes(3),
        "train/dog/2.jpg": jpeg_bytes(4)[:-50],
        "train/cow/1.jpg": jpeg_bytes(5),
        "train/notes.txt": b"not an image",
        "test/cat/1.jpg": jpeg_bytes(6),
    }
    for name, data in files.items():
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_bytes(data)
    (corpus / "train/hen").symlink_to(corpus / "train/cat", target_is_directory=True)
    config = ConvertConfig(input=str(corpus), output=str(tmp_path / "ds"), layout="imagefolder", classes=("cat", "dog"))
    manifest = convert_corpus(config)
    assert reasons_of(tmp_path / "ds") == {
        "train%2Fcat%2F1": "duplicate_key",
        "train%2Fdog%2F2": "truncated_jpeg",
        "train%2Fcow%2F1": "unknown_class",
        "train%2Fnotes": "unknown_class",
        "train%2Fhen": "not_a_file",
    }
    assert {split: of.listed for split, of in manifest.ledger.items()} == {"test": 1, "train": 7}
    kept = files_of(tmp_path / "ds")
    convert_corpus(config)
    assert files_of(tmp_path / "ds") == kept


def test_bytes_do_not_depend_on_the_number_of_workers(corpus: Path, folder: Path, tmp_path: Path) -> None:
    config = ConvertConfig(input=str(corpus), output=str(tmp_path / "ds"))
    convert_corpus(config, ["--direct_num_workers=2", "--direct_running_mode=multi_threading"])
    assert payload_of(tmp_path / "ds") == payload_of(folder / "dataset")
