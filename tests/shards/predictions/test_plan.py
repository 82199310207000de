"""Test which shards a plan scores, and why."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from shards.format.parquet import QUARANTINE_SCHEMA, predictions_schema, write_parquet
from shards.format.shard_reader import read_rows, read_scans
from shards.predictions.parts import Engine, PartInfo, part_url, quarantine_part_url, write_part
from shards.predictions.plan import existing_parts, plan_scoring, unlisted_parts
from tests.shards.by_hand import CLASSES, make_jpeg, overwrite, small_dataset, write_dataset

MODEL_ID = "chr-resnet18-0123456789ab"
TEST, TRAIN_0, TRAIN_1 = "test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"


@pytest.fixture
def dataset(tmp_path):
    return small_dataset(tmp_path / "ds")


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "predictions" / MODEL_ID)


def score_by_hand(url, dataset, names, model_id=MODEL_ID):
    """Write parts as a scorer would that scores whatever the reader lets through."""
    for shard in dataset.shards():
        if shard.name not in names:
            continue
        rows = read_rows(dataset.samples_url(shard), shard.num_scans)
        scans = [scan for batch in read_scans(dataset.tar_url(shard), rows, 4) for scan in batch]
        quarantine = [
            {"source_uri": scan.row.source_uri, "key": scan.row.key, "stage": "score"} | scan.refusal._asdict()
            for scan in scans
            if scan.refusal is not None
        ]
        logits = dict.fromkeys(CLASSES, 0.0)
        peaks = {name: {"x_px": 1.0, "y_px": 1.0, "level": 1, "value": 0.0} for name in CLASSES}
        scored = [
            {"key": scan.row.key, "split": shard.split, "logits": logits, "level_logits": [logits], "peaks": peaks}
            for scan in scans
            if scan.refusal is None
        ]
        info = PartInfo(
            model_id=model_id,
            shard=shard.name,
            shard_digest=shard.digest,
            split=shard.split,
            num_scored=len(scored),
            num_quarantined=len(quarantine),
            quarantined_by_reason=dict(Counter(row["reason"] for row in quarantine)),
            engine=Engine("dali-cpu", "cpu", "float32", 4),
        )
        table = pa.Table.from_pylist(scored, predictions_schema(CLASSES))
        write_part(url, table, pa.Table.from_pylist(quarantine, QUARANTINE_SCHEMA), info)


def whys(url, *datasets, split=None):
    return {task.shard.name: task.why for task in plan_scoring(url, MODEL_ID, datasets, split).tasks}


def test_at_first_every_shard_is_to_be_scored_largest_first(url, dataset):
    plan = plan_scoring(url, MODEL_ID, [dataset], None)
    assert [task.shard.name for task in plan.tasks] == [TEST, TRAIN_0, TRAIN_1]
    assert plan.num_by_reason == {"unscored": 3}
    assert (plan.num_existing, plan.num_scans) == (0, 15)
    assert [Path(path).exists() for task in plan.tasks for path in (task.tar_url, task.samples_url)] == [True] * 6


def test_what_is_there_is_left_alone(url, dataset):
    score_by_hand(url, dataset, {TEST, TRAIN_1})
    assert whys(url, dataset) == {TRAIN_0: "unscored"}
    score_by_hand(url, dataset, {TRAIN_0})
    plan = plan_scoring(url, MODEL_ID, [dataset], None)
    assert (plan.tasks, plan.num_existing) == ((), 3)
    assert {part.shard for part in existing_parts(url, MODEL_ID, [dataset])} == {TEST, TRAIN_0, TRAIN_1}


def test_a_split_that_is_named_is_the_only_one(url, dataset):
    assert whys(url, dataset, split="test") == {TEST: "unscored"}
    with pytest.raises(ValueError, match=r"split must be one of \['test', 'train'\], got 'val'"):
        whys(url, dataset, split="val")


def test_a_shard_whose_bytes_changed_is_scored_again(url, dataset, tmp_path):
    score_by_hand(url, dataset, {TEST, TRAIN_0, TRAIN_1})
    changed = write_dataset(
        tmp_path / "ds2",
        {TEST: [(f"N{number:05d}", make_jpeg(7)) for number in range(5)]},
    )
    assert whys(url, changed) == {TEST: "changed"}
    assert existing_parts(url, MODEL_ID, [changed]) == []
    assert unlisted_parts(url, [changed]) == [TRAIN_0, TRAIN_1]
    assert unlisted_parts(url, [dataset]) == []


def test_a_part_of_another_model_in_this_models_folder_is_scored_again(url, dataset):
    score_by_hand(url, dataset, {TEST}, model_id="plain-resnet18-000000000000")
    assert whys(url, dataset, split="test") == {TEST: "changed"}


def test_a_damaged_part_is_made_again(url, dataset):
    score_by_hand(url, dataset, {TEST})
    part = Path(part_url(url, TEST))
    part.write_bytes(part.read_bytes()[:-10])
    assert whys(url, dataset, split="test") == {TEST: "unscored"}


def test_a_part_whose_quarantine_is_gone_or_cut_is_incomplete(url, dataset):
    tar = Path(dataset.url) / "test" / f"{TEST}.tar"
    overwrite(tar, 600, bytes(100))
    score_by_hand(url, dataset, {TEST})
    assert whys(url, dataset, split="test") == {}
    quarantine = quarantine_part_url(url, TEST)
    write_parquet(quarantine, QUARANTINE_SCHEMA.empty_table())
    assert whys(url, dataset, split="test") == {TEST: "incomplete"}
    Path(quarantine).write_bytes(b"PAR1")
    assert whys(url, dataset, split="test") == {TEST: "incomplete"}
    Path(quarantine).unlink()
    assert whys(url, dataset, split="test") == {TEST: "incomplete"}


def test_a_damaged_scan_that_was_repaired_is_scored_again_and_one_that_was_not_is_left(url, dataset):
    tar = Path(dataset.url) / "test" / f"{TEST}.tar"
    sound = tar.read_bytes()
    overwrite(tar, 600, bytes(100))
    score_by_hand(url, dataset, {TEST})
    assert whys(url, dataset, split="test") == {}
    tar.write_bytes(sound)
    assert whys(url, dataset, split="test") == {TEST: "repaired"}


def test_a_shard_that_was_missing_and_came_back_is_scored_again(url, dataset):
    tar = Path(dataset.url) / "test" / f"{TEST}.tar"
    tar.rename(tar.with_suffix(".away"))
    score_by_hand(url, dataset, {TEST})
    assert whys(url, dataset, split="test") == {}
    tar.with_suffix(".away").rename(tar)
    assert whys(url, dataset, split="test") == {TEST: "repaired"}


def test_two_datasets_with_a_shard_of_one_name_are_refused(url, dataset, tmp_path):
    other = small_dataset(tmp_path / "other", seed=50)
    with pytest.raises(
        ValueError,
        match=r"shard names must differ between datasets of one folder of predictions, got .*--output of its own",
    ):
        whys(url, dataset, other)


def test_an_archive_of_datasets_needs_a_split_in_one_of_them(url, dataset, tmp_path):
    other = write_dataset(tmp_path / "other", {"val-00000-of-00001": [("N1", make_jpeg(1))]})
    assert whys(url, dataset, other, split="val") == {"val-00000-of-00001": "unscored"}
    with pytest.raises(ValueError, match="split must be one of"):
        whys(url, dataset, other, split="other")


def test_no_part_is_unlisted_where_nothing_was_scored_yet(url, dataset):
    assert unlisted_parts(url, [dataset]) == []
