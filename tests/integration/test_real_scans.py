"""Run real scans through every command; SIXRAY_SAMPLE names a folder of the release."""

import hashlib
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pipelines import cli, convert, verify
from shards.corpus.annotations import parse_annotation
from shards.format.dataset import open_dataset
from shards.images.jpeg import read_jpeg_size
from shards.predictions.run import open_predictions
from tests.corpora import files_of, images_of, rows_of
from tests.shards.plain_calls import CLASSES, convert_plainly

SAMPLE = os.environ.get("SIXRAY_SAMPLE")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(SAMPLE is None, reason="SIXRAY_SAMPLE names no folder of real scans"),
]
ROOT = Path(SAMPLE or "/nonexistent")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The real scans, converted in several shards."""
    output = tmp_path_factory.mktemp("real") / "ds"
    # 1: no scan of a part of the release may have a class that its lists name
    assert convert.main(["--input", str(ROOT), "--output", str(output), "--shard-bytes", "8000000"]) in (0, 1)
    return output


def test_every_file_is_in_the_shards_byte_for_byte_or_refused_by_name(dataset):
    images = images_of(dataset)
    sources = {row["source_uri"]: row for row in rows_of(dataset)}
    refused = {row["source_uri"] for row in rows_of(dataset, "quarantine")}
    files = [path for path in (ROOT / "JPEGImage").rglob("*") if path.is_file()]
    assert len(files) > 0
    for path in files:
        uri = f"file://{path.absolute()}"
        assert (uri in sources) != (uri in refused), uri
        if uri in sources:
            row, data = sources[uri], path.read_bytes()
            assert images[row["key"]] == data
            assert row["sha256"] == hashlib.sha256(data).hexdigest()
            assert (row["width_px"], row["height_px"]) == Image.open(io.BytesIO(data)).size == read_jpeg_size(data)
    assert len(images) == len(sources)


def test_the_ledger_counts_every_record_that_the_lists_and_folders_name(dataset):
    named = {path.stem for folder in ("JPEGImage", "Annotation") for path in (ROOT / folder).iterdir()}
    split_of: dict[str, str] = {}
    for split in ("train", "test"):
        lines = (ROOT / "ImageSet/10" / f"{split}.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
        split_of |= {line.partition(",")[0]: split for line in lines}
    expected = Counter(split_of.get(stem, "unlisted") for stem in named | split_of.keys())
    ledger = open_dataset(str(dataset)).manifest.ledger
    assert {split: counts.listed for split, counts in ledger.items()} == expected
    for split, counts in ledger.items():
        rows = [row for row in rows_of(dataset) if row["split"] == split]
        assert counts.converted == len(rows) == counts.listed - counts.quarantined


def test_labels_are_those_of_the_lists_and_boxes_those_of_the_annotations(dataset):
    listed: dict[str, tuple[str, ...]] = {}
    for split in ("train", "test"):
        lines = (ROOT / "ImageSet/10" / f"{split}.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
        listed |= {name: tuple(labels) for name, *labels in (line.split(",") for line in lines)}
    num_boxes = 0
    for row in rows_of(dataset):
        if row["key"] in listed:
            texts = tuple({1: "1", 0: "-1", None: "0"}[row["labels"][name]] for name in CLASSES.scored)
            assert texts == listed[row["key"]]
        path = ROOT / "Annotation" / f"{row['key']}.xml"
        boxes = parse_annotation(path.read_bytes(), CLASSES.spellings).boxes if path.exists() else ()
        assert [box.to_row() for box in boxes] == [
            {name: pytest.approx(value) if name != "class" else value for name, value in box.items()}
            for box in row["boxes"]
        ]
        num_boxes += len(boxes)
    assert num_boxes > 0


def test_verify_finds_it_whole(dataset, capsys):
    assert verify.main([str(dataset)]) == 0
    assert capsys.readouterr().out.startswith("whole: ")


def test_plain_calls_in_another_order_give_the_same_shards(dataset, tmp_path):
    convert_plainly(ROOT, tmp_path / "ds", shard_bytes=8_000_000, seed=1)
    for name, data in files_of(tmp_path / "ds").items():
        if name != "dataset.json":
            assert (dataset / name).read_bytes() == data, name


def test_every_scan_is_scored_and_the_report_counts_the_test_split(dataset, tmp_path):
    few, run, predictions, report = (str(tmp_path / name) for name in ("few", "run", "predictions", "report"))
    # A twentieth to learn from: training and the trial of engines would take longer than all the rest.
    assert cli.main(["reshard", "--input", str(dataset), "--output", few, "--where", "hash(key) % 20 = 0"]) == 0
    small = ["--recipe", "demo", "--max-epochs", "1", "--image-size", "64", "--positive-repeats", "1"]
    small += ["--backbone", "test_resnet", "--no-pretrained"]
    assert cli.main(["train", "--data", few, "--output", run, *small]) == 0
    words = ["--model", f"{run}/model", "--input", str(dataset), "--output", predictions]
    assert cli.main(["score", *words, "--engine=eager", "--dtype=float32", "--batch-size=16"]) == 0
    (scored,) = Path(predictions).iterdir()
    counts = open_predictions(str(scored)).run["counts"]
    assert counts["num_scored"] + counts["num_quarantined"] == open_dataset(str(dataset)).manifest.num_scans
    assert cli.main(["verify", str(scored)]) == 0
    flags = ["--predictions", str(scored), "--data", str(dataset), "--output", report, "--bootstrap-rounds", "20"]
    assert cli.main(["evaluate", *flags]) == 0
    metrics = json.loads((Path(report) / "metrics.json").read_text())
    assert (metrics["num_scans"], metrics["num_missing"]) == (
        open_dataset(str(dataset)).manifest.ledger["test"].converted,
        0,
    )
