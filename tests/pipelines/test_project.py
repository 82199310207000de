"""Test that a projected dataset holds every scan of the input, its projections, and what each of them is made of."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.project import main, project_items
from pipelines.reshard import reshard_datasets
from pipelines.runtime import process_pool
from pipelines.steps.project_job import ProjectConfig
from pipelines.steps.reshard_job import ReshardConfig
from shards.format.dataset import open_dataset
from shards.writing import projected_samples
from tests.corpora import CorpusWriter, images_of, payload_of, reasons_of, rows_of, stamps_of
from tests.painted import BAG, METAL, SHEET, as_jpeg, paint, rectangle, tool
from tests.shards.plain_calls import convert_plainly, verify_plainly

SHARD_BYTES = 25_000
BAG_MASK = rectangle(10, 10, 230, 190)


def add_scan(corpus: CorpusWriter, number: int, name: str | None, split: str) -> None:
    """Add a painted scan: a bag with an item or, in a negative one, another object of the same kind."""
    rng = np.random.default_rng(number)
    x, y = int(rng.integers(20, 160)), int(rng.integers(20, 150))
    left, top, right, bottom = (int(value) for value in (*rng.integers(20, 60, 2), *rng.integers(110, 180, 2)))
    sheet = rectangle(left, top, right, bottom)
    stem = f"{'N' if name is None else 'P'}{number:05d}"
    metal = METAL ** rng.uniform(0.8, 1.2)
    corpus.add_image(stem, as_jpeg(paint((BAG_MASK, BAG), (sheet, SHEET), (tool(x, y), metal), seed=number)))
    corpus.add_row(stem, () if name is None else (name,), split=split)
    if name is not None:
        corpus.add_annotation(stem, [(name, x, y, x + 60, y + 30)])


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A dataset of 24 training and 8 test scans, one of them a copy, one refused."""
    corpus = CorpusWriter(tmp_path_factory.mktemp("corpus"))
    for number in range(24):
        add_scan(corpus, number, (None, "Gun", "Knife")[number % 3], "train")
    for number in range(30, 37):
        add_scan(corpus, number, (None, "Gun")[number % 2], "test")
    corpus.add_image("N90000", (corpus.images / "N00000.jpg").read_bytes())
    corpus.add_row("N90000")
    corpus.add_row("N90001")
    output = Path(tmp_path_factory.mktemp("source"), "ds")
    convert_plainly(corpus.root, output, shard_bytes=SHARD_BYTES)
    return output


@pytest.fixture(scope="module")
def projected(source, tmp_path_factory) -> Path:
    output = Path(tmp_path_factory.mktemp("projected"), "ds")
    project_items(config_for(source, output))
    return output


def config_for(source: Path, output: Path, **changes: Any) -> ProjectConfig:
    return replace(ProjectConfig(items=str(source), input=str(source), output=str(output)), **changes)


def projections_of(dataset: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(dataset) if row["projected_from"] is not None]


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_every_scan_comes_along_to_the_byte_and_the_dataset_is_whole(source, projected):
    kept, found = images_of(source), images_of(projected)
    assert {key: found[key] for key in kept} == kept
    assert verify_plainly(projected) == []
    manifest, before = open_dataset(str(projected)).manifest, open_dataset(str(source)).manifest
    assert manifest.ledger["test"] == before.ledger["test"]
    # 24 scans, and no projection of the copy.
    train = manifest.ledger["train"]
    assert (train.listed, train.converted + train.quarantined) == (before.ledger["train"].listed + 24, train.listed)
    assert train.quarantined_by_reason == before.ledger["train"].quarantined_by_reason == {"missing_image": 1}
    assert manifest.is_projected and sum(entry["count"] for entry in manifest.projections.values()) == 24


def test_a_projection_says_what_it_is_made_of_and_never_crosses_splits(source, projected):
    before = {row["key"]: row for row in rows_of(source)}
    for row in projections_of(projected):
        of = row["projected_from"]
        scan, item = before[of["scan"]], before[of["item"]]
        assert row["split"] == scan["split"] == item["split"] == "train"
        assert row["key"] == f"{scan['key']}+p1" and scan["key"] != item["key"]
        assert (row["width_px"], row["height_px"]) == (scan["width_px"], scan["height_px"])
        assert row["source_uri"] == scan["source_uri"]
        if of["class"] is None:
            assert not any(value == 1 for value in item["labels"].values())
            assert (row["labels"], row["boxes"]) == (scan["labels"], scan["boxes"])
        else:
            assert item["labels"][of["class"]] == 1
            assert row["labels"] == scan["labels"] | {of["class"]: 1}
            *others, own = row["boxes"]
            assert others == scan["boxes"]
            assert own == {"class": of["class"]} | {name: of[name] for name in own if name != "class"}
        assert 0 <= of["occlusion"] <= 1


def test_negatives_get_other_objects_as_often_as_items(projected):
    kinds = Counter(row["projected_from"]["class"] for row in projections_of(projected))
    assert kinds.keys() == {None, "Gun", "Knife"}
    assert 6 <= kinds[None] <= 18


def test_pixels_are_those_of_the_scan_but_for_the_object_which_only_takes_light(projected):
    images = images_of(projected)
    for row in projections_of(projected):
        of = row["projected_from"]
        before, after = decode(images[of["scan"]]), decode(images[row["key"]])
        outside = np.ones(before.shape[:2], bool)
        # JPEG spreads a change over blocks of 16 pixels.
        outside[max(0, of["ymin_px"] - 16) : of["ymax_px"] + 16, max(0, of["xmin_px"] - 16) : of["xmax_px"] + 16] = (
            False
        )
        assert np.abs(after - before)[outside].max() <= 24 and np.abs(after - before)[outside].mean() < 0.5
        part = np.s_[of["ymin_px"] : of["ymax_px"], of["xmin_px"] : of["xmax_px"]]
        assert (after - before)[part].mean() < -10
        assert not (np.abs(after - before).max(axis=2) > 40)[~BAG_MASK].any()


def test_a_projection_is_of_the_bag_of_its_scan(source, projected):
    groups = {row["key"]: row["group"] for row in rows_of(projected)}
    for row in projections_of(projected):
        assert row["group"] == groups[row["projected_from"]["scan"]] == f"scan {row['projected_from']['scan']}"
    assert groups["N90000"] == groups["N00000"] == "scan N00000"
    assert {groups[row["key"]] for row in rows_of(source) if row["split"] == "test"} == {None}
    copies = {row["key"]: row["duplicate_of"] for row in rows_of(projected) if row["duplicate_of"]}
    assert copies == {"N90000": "N00000"}


@pytest.mark.slow
def test_the_same_inputs_and_seed_give_the_same_bytes_in_any_number_of_processes(
    source, projected, tmp_path, monkeypatch
):
    monkeypatch.setattr(process_pool, "SMALL_JOB_SCANS", 0)
    with process_pool.run_in_processes(2):
        project_items(config_for(source, tmp_path / "ds"))
    assert payload_of(tmp_path / "ds") == payload_of(projected)
    project_items(config_for(source, tmp_path / "other", seed=1))
    assert payload_of(tmp_path / "other") != payload_of(projected)


def test_a_stopped_job_goes_on_and_a_finished_one_has_nothing_to_do(source, projected, tmp_path, monkeypatch, capsys):
    output = tmp_path / "ds"
    config = config_for(source, output)
    real, calls = projected_samples.project_sample, []

    def stop_at_the_tenth(ref, scan):
        calls.append(ref.key)
        if len(calls) == 10:
            raise OSError("the disk is full")
        return real(ref, scan)

    with monkeypatch.context() as patch:
        patch.setattr(projected_samples, "project_sample", stop_at_the_tenth)
        with pytest.raises((OSError, RuntimeError), match="the disk is full"):
            project_items(config)
    assert not (output / "dataset.json").exists() and list(output.glob("train/*.tar"))
    written = {name: stamp for name, stamp in stamps_of(output).items() if name.endswith(".tar")}
    project_items(config)
    assert payload_of(output) == payload_of(projected)
    assert written.items() <= stamps_of(output).items()
    stamps = stamps_of(output)
    project_items(config)
    assert stamps_of(output) == stamps
    assert "nothing to do" in capsys.readouterr().err


def test_other_options_replace_a_dataset_only_if_told_to(source, projected, tmp_path, capsys):
    output = tmp_path / "ds"
    words = ["--items", str(source), "--input", str(source), "--output", str(output)]
    assert main([*words, "--max-quarantine-fraction=0.1", "--classes=Gun"]) == 0
    out = capsys.readouterr().out
    assert "projected: " in out and " Gun, " in out and "Knife" not in out
    assert main([*words, "--per-scan=2"]) == 2
    assert "per_scan is 1 there and 2 here" in capsys.readouterr().err
    assert main([*words, "--per-scan=2", "--overwrite", "--max-quarantine-fraction=0.1"]) == 0
    assert len(projections_of(output)) == 48
    assert main([*words, "--per-scan=2", "--max-quarantine-fraction=0"]) == 1  # findings: one scan is in quarantine
    assert verify_plainly(output) == []


def test_a_scan_without_room_is_refused_by_name_and_the_rest_goes_on(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(12):
        add_scan(corpus, number, (None, "Gun")[number % 2], "train")
    corpus.add_image("N50000", as_jpeg(np.full((200, 240, 3), 255, np.uint8)))
    corpus.add_row("N50000")
    convert_plainly(corpus.root, tmp_path / "in")
    project_items(config_for(tmp_path / "in", tmp_path / "ds"))
    assert reasons_of(tmp_path / "ds") == {"N50000+p1": "no_place"}
    assert verify_plainly(tmp_path / "ds") == []


def test_items_whose_scan_lies_in_another_split_of_the_input_are_left_out(source, tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(24):  # the same scans: all that were training scans but the first six are test scans here
        add_scan(corpus, number, (None, "Gun", "Knife")[number % 3], "train" if number < 6 else "test")
    convert_plainly(corpus.root, tmp_path / "in")
    project_items(config_for(source, tmp_path / "ds", input=str(tmp_path / "in")))
    found = projections_of(tmp_path / "ds")
    assert found
    assert {row["projected_from"]["item"] for row in found} <= {
        row["key"] for row in rows_of(tmp_path / "in") if row["split"] == "train"
    }


def test_a_projected_dataset_is_resharded_with_what_it_is_made_of(source, projected, tmp_path):
    reshard_datasets(ReshardConfig(inputs=(str(projected),), output=str(tmp_path / "same")))
    assert payload_of(tmp_path / "same") == payload_of(projected)
    assert open_dataset(str(tmp_path / "same")).manifest.projections
    config = ReshardConfig(
        inputs=(str(projected), str(source)), output=str(tmp_path / "real"), where=("projected_from is null",)
    )
    manifest = reshard_datasets(config)
    assert manifest.is_projected and images_of(tmp_path / "real") == images_of(source)
    assert verify_plainly(tmp_path / "real") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("Tank",)}, "classes must be of those of both datasets, .* got Tank"),
        ({"classes": ("Wrench",)}, "items must have a box in split 'train' whose item can be cut out, got none"),
        ({"splits": ("val",)}, r"split must be one of \['test', 'train'\], got val"),
        ({"per_scan": 0}, "per_scan must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_projected_is_said(source, tmp_path, changes, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        project_items(config_for(source, tmp_path / "ds", **changes))


def test_projections_are_not_projected_again(source, projected, tmp_path):
    with pytest.raises(ValueError, match="must be of scans as a scanner took them, got one with projections"):
        project_items(config_for(projected, tmp_path / "ds"))
    with pytest.raises(ValueError, match="output must be a folder apart from the inputs"):
        project_items(config_for(source, source / "inner"))
