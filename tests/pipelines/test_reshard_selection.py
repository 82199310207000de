"""Test which samples of which datasets a resharding takes: by condition, split, label, class and subset."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from pipelines.reshard import reshard_datasets
from pipelines.steps.reshard_job import ReshardConfig
from shards import storage
from tests.corpora import (
    SCORED,
    CorpusWriter,
    images_of,
    make_corpus,
    reasons_of,
    rewrite_rows,
    rows_of,
)
from tests.pipelines.resharding import SHARD_BYTES, config_for, contents, run, source
from tests.shards.plain_calls import convert_plainly, verify_plainly

__all__ = ["source"]  # a fixture


@pytest.mark.slow
def test_rows_are_chosen_by_a_condition(source, tmp_path):
    reshard_datasets(
        config_for(source, tmp_path / "ds", where=("labels.Gun = 1 and width_px >= 40",), shard_bytes=SHARD_BYTES)
    )
    chosen = {key for key, row in contents(source).items() if row["labels"]["Gun"] == 1}
    assert len(chosen) > 3 and set(contents(tmp_path / "ds")) == chosen
    assert all(contents(tmp_path / "ds")[key] == contents(source)[key] for key in chosen)
    assert images_of(tmp_path / "ds") == {key: image for key, image in images_of(source).items() if key in chosen}
    assert reasons_of(tmp_path / "ds") == {}
    assert verify_plainly(tmp_path / "ds") == []


def test_splits_positives_and_classes_are_chosen(source, tmp_path):
    config = config_for(source, tmp_path / "ds", splits=("train",), subset="positives", classes=("Knife", "Hammer"))
    manifest = reshard_datasets(config)
    assert (manifest.classes, manifest.scored_classes) == (("Knife", "Hammer"), ("Knife",))
    expected = {
        key: row | {"labels": {name: row["labels"][name] for name in ("Knife", "Hammer")}}
        for key, row in contents(source).items()
        if row["split"] == "train" and row["labels"]["Knife"] == 1
    }
    for row in expected.values():
        row["boxes"] = [box for box in row["boxes"] if box["class"] == "Knife"]
    assert contents(tmp_path / "ds") == expected
    assert len(expected["P90004"]["boxes"]) == 1
    assert verify_plainly(tmp_path / "ds") == []


@pytest.mark.slow
def test_sixray10_is_built_from_labels_and_what_was_kept_for_testing_stays_there(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(90):
        corpus.add_scan(f"N{number:07d}", split="test" if number % 5 == 0 else "train")
    for number in range(5):
        corpus.add_scan(f"P{number:05d}", ("Gun",), split="test" if number == 0 else "train")
    corpus.add_image("unknown")
    convert_plainly(corpus.root, tmp_path / "all")
    reshard_datasets(config_for(tmp_path / "all", tmp_path / "ten", subset="10"))
    before, after = contents(tmp_path / "all"), contents(tmp_path / "ten")
    assert all(before[key] == row for key, row in after.items())
    assert Counter(1 in row["labels"].values() for row in after.values()) == {True: 5, False: 50}
    reshard_datasets(config_for(tmp_path / "all", tmp_path / "other", subset="10", seed=1))
    assert set(contents(tmp_path / "other")) != set(after)


def test_scans_without_a_split_get_that_of_the_subset(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(55):
        corpus.add_image(f"N{number:07d}")
    convert_plainly(corpus.root, tmp_path / "all", layout="images")
    for path in (tmp_path / "all/samples").iterdir():
        # A dataset whose labels were made elsewhere.
        rewrite_rows(path, lambda rows: [row.update(labels=known(row["key"][-7:] < "0000005")) for row in rows])
    manifest = json.loads((tmp_path / "all/dataset.json").read_text())
    for shard in manifest["shards"]:
        shard["samples_sha256"] = storage.sha256_of(tmp_path / f"all/samples/{shard['name']}.parquet")
    assert {shard["split"] for shard in manifest["shards"]} == {"unlisted"}
    (tmp_path / "all/dataset.json").write_text(json.dumps(manifest))
    reshard_datasets(config_for(tmp_path / "all", tmp_path / "ten", subset="10"))
    rows = contents(tmp_path / "ten").values()
    found = Counter((row["split"], row["labels"]["Gun"]) for row in rows)
    assert found == {("train", 1): 4, ("test", 1): 1, ("train", 0): 40, ("test", 0): 10}


def known(is_positive: bool) -> dict[str, int]:
    """Labels that leave nothing open."""
    return dict.fromkeys([*SCORED, "Hammer"], 0) | {"Gun": int(is_positive)}


def test_duplicates_are_named_among_what_is_left(source, tmp_path):
    assert {row["key"]: row["duplicate_of"] for row in rows_of(source) if row["duplicate_of"]} == {"N90003": "N00001"}
    reshard_datasets(config_for(source, tmp_path / "ds", splits=("test",)))
    assert [row["duplicate_of"] for row in rows_of(tmp_path / "ds") if row["key"] == "N90003"] == [None]


@pytest.mark.slow
def test_several_datasets_become_one_and_the_first_has_a_key_that_both_have(source, tmp_path, capsys):
    other = make_corpus(tmp_path / "c", num_train=3, num_test=0)
    other.add_scan("X1", split="test")
    other.add_image("X2", (other.images / "N00001.jpg").read_bytes())
    convert_plainly(other.root, tmp_path / "other")
    words = ["--input", source, "--input", tmp_path / "other", "--output", tmp_path / "ds"]
    assert run(*words, "--max-quarantine-fraction=0") == 1
    both = contents(tmp_path / "ds")
    assert set(both) == set(contents(source)) | {"X1", "X2"}
    assert all(both[key] == row for key, row in contents(source).items())
    assert Counter(reasons_of(tmp_path / "ds").values()) == Counter(reasons_of(source).values()) + Counter(
        {"duplicate_key": 3}
    )
    (twice,) = [row for row in rows_of(tmp_path / "ds", "quarantine") if row["key"] == "N00001"]
    assert twice["detail"].startswith(f"file://{source}/train/train-") and twice["stage"] == "list"
    assert {row["key"]: row["duplicate_of"] for row in rows_of(tmp_path / "ds") if row["duplicate_of"]} == {
        "N90003": "N00001",
        "X2": "N00001",
    }
    assert "3 duplicate_key" in capsys.readouterr().out
    assert verify_plainly(tmp_path / "ds") == []
    # The other way round the other one's samples stay.
    reshard_datasets(ReshardConfig(inputs=(str(tmp_path / "other"), str(source)), output=str(tmp_path / "swapped")))
    assert contents(tmp_path / "swapped")["N00001"] == contents(tmp_path / "other")["N00001"]


def test_datasets_of_different_classes_need_the_classes_named_and_what_one_lacks_is_unknown(source, tmp_path):
    reshard_datasets(config_for(source, tmp_path / "guns", classes=("Gun",), splits=("test",)))
    config = ReshardConfig(inputs=(str(tmp_path / "guns"), str(source)), output=str(tmp_path / "ds"))
    with pytest.raises(ValueError, match=r"inputs must have the same classes, got Gun and Gun, Knife, .*--classes"):
        reshard_datasets(config)
    reshard_datasets(replace(config, classes=("Knife", "Gun")))
    rows = contents(tmp_path / "ds")
    assert {row["labels"]["Knife"] for row in rows.values() if row["split"] == "test"} == {None}
    assert {row["labels"]["Knife"] for row in rows.values() if row["split"] == "train"} == {0, 1}
