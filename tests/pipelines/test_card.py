"""Test `sixray card`: what it says of a dataset, a model and a report, and that other programs read it."""

import hashlib
import json
import warnings

import pytest
import yaml

from pipelines import cli
from pipelines.convert import convert_corpus
from pipelines.steps.corpus_job import ConvertConfig
from tests.corpora import images_of, make_corpus, rows_of
from tests.golden import steps


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=12, num_test=5)
    output = tmp_path_factory.mktemp("card") / "bags"
    convert_corpus(ConvertConfig(input=str(corpus.root), output=str(output), shard_bytes=15_000))
    assert cli.main(["card", str(output), "--name", "Bags, small", "--license", "cc-by-4.0"]) == 0
    return output


def read_card(folder):
    """Front matter and text of a card."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_dataset_card_counts_what_the_dataset_holds(dataset):
    front, text = read_card(dataset)
    assert front["pretty_name"] == "Bags, small" and front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"] and "synthetic" not in front["tags"]
    paths = {file["split"]: file["path"] for file in front["configs"][0]["data_files"]}
    assert paths == {"test": "test/*.tar", "train": "train/*.tar"}
    rows = [row for row in rows_of(dataset) if row["split"] == "train"]
    guns, boxes = sum(row["labels"]["Gun"] == 1 for row in rows), sum(len(row["boxes"]) for row in rows)
    (line,) = [line for line in text.splitlines() if line.startswith("| train |")]
    assert line.startswith(f"| train | {len(rows)} | 0 | {guns} |") and line.endswith(f"| {boxes} |")
    assert json.loads((dataset / "dataset.json").read_text())["digest"] in text


def test_a_dataset_with_its_card_is_whole_and_may_be_converted_again(dataset, tmp_path, capsys):
    assert cli.main(["verify", str(dataset)]) == 0
    assert cli.main(["card", str(dataset), "--output", str(tmp_path)]) == 0
    assert cli.main(["reshard", "--input", str(dataset), "--output", str(tmp_path / "again")]) == 0
    assert cli.main(["card", str(tmp_path / "again")]) == 0
    words = ["--input", str(dataset), "--output", str(tmp_path / "again"), "--overwrite", "--split", "test"]
    assert cli.main(["reshard", *words]) == 0


def test_an_edited_card_is_never_overwritten(dataset, tmp_path, capsys):
    words = ["card", str(dataset), "--output", str(tmp_path)]
    assert cli.main(words) == cli.main(words) == 0
    card = tmp_path / "README.md"
    card.write_text(card.read_text() + "By hand.\n")
    assert cli.main(words) == 2
    assert "output must hold no other croissant.json than one that `sixray card` wrote" in capsys.readouterr().err
    assert card.read_text().endswith("By hand.\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/README.md").write_text("# Mine\n")
    assert cli.main([*words[:2], "--output", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other/croissant.json").exists()


def test_croissant_names_every_tar_with_its_checksum_and_every_field(dataset):
    document = json.loads((dataset / "croissant.json").read_text())
    tars = {of["contentUrl"]: of for of in document["distribution"] if of["@type"] == "cr:FileObject"}
    assert set(tars) == {str(path.relative_to(dataset)) for path in dataset.glob("*/*.tar")}
    for name, of in tars.items():
        data = (dataset / name).read_bytes()
        assert of["sha256"] == hashlib.sha256(data).hexdigest() and of["contentSize"] == f"{len(data)} B"
    assert document["license"] == "cc-by-4.0"
    fields = {field["@id"] for field in document["recordSet"][0]["field"]}
    assert {"samples/key", "samples/labels/Gun", "samples/boxes", "samples/group"} <= fields


def test_mlcroissant_validates_it_and_loads_both_record_sets(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
        loaded = mlcroissant.Dataset(jsonld=str(dataset / "croissant.json"))
        assert not loaded.metadata.ctx.issues.errors
        samples = list(loaded.records("samples"))
        scans = list(loaded.records("scans"))
    rows = {row["key"]: row for row in rows_of(dataset)}
    assert len(samples) == len(scans) == len(rows)
    for record in samples:
        row = rows[record["samples/key"].decode()]
        assert record["samples/sha256"].decode() == row["sha256"]
        assert record["samples/labels/Gun"] == row["labels"]["Gun"]
        boxes = [box["samples/boxes/class"].decode() for box in record["samples/boxes"]]
        assert boxes == [box["class"] for box in row["boxes"]]
    images = images_of(dataset)
    for record in scans:
        key = record["scans/key"].decode()
        assert key in images and record["scans/image"].size == (rows[key]["width_px"], rows[key]["height_px"])


def test_a_model_card_says_what_it_learnt_from_and_how_good_it_is(tmp_path):
    words = ["card", str(steps.MODEL), "--license", "mit", "--output", str(tmp_path), "--report", str(steps.REPORT)]
    assert cli.main(words) == 0
    front, text = read_card(tmp_path)
    model_id = json.loads((steps.REPORT / "metrics.json").read_text())["model_id"]
    assert front["license"] == "mit" and front["model-index"][0]["name"] == model_id
    names = {metric["name"]: metric["value"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    metrics = json.loads((steps.REPORT / "metrics.json").read_text())
    assert names["mean average precision"] == metrics["mean"]["average_precision"]["non_interpolated"]
    for title in ("Intended use", "Training data", "Figures", "Limits", "License"):
        assert f"## {title}" in text
    low, high = metrics["classes"]["Gun"]["intervals"]["average_precision"]
    value = metrics["classes"]["Gun"]["average_precision"]["non_interpolated"]
    assert f"{value:.3f} [{low:.3f}–{high:.3f}]" in text


def test_a_model_card_without_a_report_says_that_its_quality_is_unknown(tmp_path, capsys):
    assert cli.main(["card", str(steps.MODEL), "--output", str(tmp_path)]) == 0
    front, text = read_card(tmp_path)
    assert "model-index" not in front and "is not known from this card" in text and "Not stated" in text
    other = tmp_path / "report"
    other.mkdir()
    document = json.loads((steps.REPORT / "metrics.json").read_text()) | {"model_id": "another"}
    (other / "metrics.json").write_text(json.dumps(document))
    assert cli.main(["card", str(steps.MODEL), "--output", str(tmp_path), "--report", str(other)]) == 2
    assert "report must be of the model" in capsys.readouterr().err


def test_a_report_card_leads_with_what_to_know(tmp_path):
    assert cli.main(["card", str(steps.REPORT), "--output", str(tmp_path)]) == 0
    _, text = read_card(tmp_path)
    assert text.index("## What to know first") < text.index("## Figures")
    assert "Too few scans to rate Gun" in text and "1 could not be scored" in text


def test_other_folders_and_flags_that_do_not_apply_are_refused(dataset, tmp_path, capsys):
    assert cli.main(["card", str(tmp_path)]) == 2
    assert "folder must hold dataset.json, config.json or metrics.json" in capsys.readouterr().err
    assert cli.main(["card", str(dataset), "--report", str(steps.REPORT)]) == 2
    assert cli.main(["card", str(steps.REPORT), "--license", "mit"]) == 2
    assert cli.main(["card", str(steps.MODEL), "--name", "x"]) == 2
