"""Test unreadable shards, a second run at the same time, and runs that are stopped at a bad moment."""

import json

import pytest

from pipelines import cli, score
from pipelines.steps import score_run
from pipelines.steps.score_shards import find_part
from shards.predictions import plan
from shards.predictions.plan import plan_scoring
from shards.predictions.run import write_run
from tests.pipelines.scoring import TEST, TRAIN_0, TRAIN_1, bench, model
from tests.shards.by_hand import make_jpeg, write_dataset

__all__ = ["bench", "model"]  # fixtures


def change_test_shard(bench):
    """Write the dataset anew with other images in its test split."""
    shards = {TEST: [(f"N{number:05d}", make_jpeg(500 + number)) for number in range(5)]}
    for place, name in enumerate((TRAIN_0, TRAIN_1)):
        shards[name] = [(row.key, make_jpeg(2 * number + place)) for number, row in enumerate(bench.rows(name))]
    write_dataset(bench.root / "ds", shards)


def make_tar_a_folder(bench):
    tar = bench.tar(TRAIN_0)
    tar.rename(tar.with_suffix(".aside"))
    tar.mkdir()


def break_samples(bench):
    (samples,) = (bench.root / "ds/samples").rglob(f"{TRAIN_0}.parquet")
    samples.rename(samples.with_suffix(".aside"))
    samples.write_bytes(b"no parquet")


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [make_tar_a_folder, break_samples])
def test_a_shard_that_cannot_be_read_costs_no_other_and_is_scored_when_it_can(bench, spoil, capsys):
    spoil(bench)
    assert bench.score() == 3
    assert bench.run()["parts"] == [TEST, TRAIN_1]
    assert bench.run()["unscored"] == {"num_shards": 1, "num_scans": 5}
    assert bench.run()["counts"]["num_quarantined"] == 0
    said = capsys.readouterr().err
    assert f"findings: {TRAIN_0} cannot be read and stays unscored: " in said
    assert "error: 1 shards could not be read; run the same command again" in said
    (aside,) = (bench.root / "ds").rglob("*.aside")
    whole = next(path for path in aside.parent.iterdir() if path.stem == aside.stem and path != aside)
    whole.rmdir() if whole.is_dir() else whole.unlink()
    aside.rename(whole)
    assert bench.score() == 0
    assert bench.run()["parts"] == [TEST, TRAIN_0, TRAIN_1]


def test_whether_a_scan_was_repaired_that_cannot_be_read_is_told_and_the_part_stays(bench, capsys):
    bench.damage(TRAIN_0, 1)
    assert bench.score() == 1
    part = f"{bench.model_id}/{TRAIN_0}.parquet"
    before = bench.files()[part]
    make_tar_a_folder(bench)
    assert bench.score() == 3
    assert (
        f"{TRAIN_0} is scored again: whether refused scans of it were repaired cannot be read"
        in capsys.readouterr().err
    )
    assert bench.files()[part] == before


def test_a_run_that_is_stopped_before_it_notes_new_parts_leaves_no_false_checksum(bench, monkeypatch):
    assert bench.score() == 0
    change_test_shard(bench)
    with monkeypatch.context() as patch:
        patch.setattr(score, "finish_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert bench.score() == 130
    assert bench.score() == 0
    assert cli.main(["verify", str(bench.folder)]) == 0


def test_a_part_that_appeared_since_the_plan_is_not_made_again(bench):
    tasks = plan_scoring(str(bench.folder), bench.model_id, [bench.dataset], None).tasks
    assert [find_part(task, bench.model_id) for task in tasks] == [None] * 3
    assert bench.score() == 0
    found = [find_part(task, bench.model_id) for task in tasks]
    assert [part and part.shard for part in found] == [task.shard.name for task in tasks]
    assert [find_part(task, "another-model") for task in tasks] == [None] * 3
    change_test_shard(bench)
    (task,) = plan_scoring(str(bench.folder), bench.model_id, [bench.dataset_now()], None).tasks
    assert task.why == "changed" and find_part(task, bench.model_id) is None


def test_parts_that_another_run_writes_while_one_ends_are_in_the_run_too(bench, monkeypatch):
    assert bench.score() == 0
    part = bench.folder / f"{TEST}.parquet"
    content = part.read_bytes()
    for path in bench.folder.iterdir():
        path.unlink()

    def write_late(url, document):
        write_run(url, document)
        part.write_bytes(content)

    monkeypatch.setattr(score_run, "write_run", write_late)
    assert bench.score("--split", "train") == 0
    assert bench.run()["parts"] == [TEST, TRAIN_0, TRAIN_1]
    assert cli.main(["verify", str(bench.folder)]) == 0


def test_an_archive_of_datasets_that_cannot_be_read_is_a_finding(bench, capsys):
    write_dataset(bench.root / "archive/mon", {"unlisted-00000-of-00001": [("N1", make_jpeg(1))]})
    manifest = bench.root / "archive/mon/dataset.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 3}))
    (bench.root / "archive/tue").mkdir()
    for words in ([], ["--split", "test"]):
        assert bench.score(*words, inputs=("archive",)) == 1
        assert "findings: 1 datasets could not be read, see above" in capsys.readouterr().err
    assert bench.score("--dry-run", inputs=("archive",)) == 1
    said = capsys.readouterr().out
    assert "format" in said and "archive/tue has no dataset.json and is left for a later run" in said


def test_scores_of_another_dataset_are_not_replaced_without_a_word(bench, capsys):
    for name, seed in (("mon", 1), ("tue", 2)):
        write_dataset(bench.root / name, {"unlisted-00000-of-00001": [("N1", make_jpeg(seed))]})
    assert bench.score(inputs=("mon",)) == 0
    assert "held scores of" not in capsys.readouterr().err
    assert bench.score(inputs=("tue",)) == 0
    assert (
        f"held scores of {bench.root}/mon; those of shards with the same names are replaced" in capsys.readouterr().err
    )


def test_what_differs_between_parts_alone_has_no_value_in_the_run(bench):
    assert bench.score("--split", "test") == 0
    assert bench.score("--batch-size", "3") == 0
    run = bench.run()
    assert (run["engine"], run["dtype"], run["batch_size"]) == ("eager", "float32", None)
    assert sorted(engine["batch_size"] for engine in run["engines"]) == [3, 4]


def test_a_long_runs_rate_is_remembered_beyond_a_short_one(bench):
    assert bench.score() == 0
    (bench.folder / f"{TEST}.parquet").unlink()
    assert bench.score() == 0
    assert (bench.run()["timings"]["num_scans"], bench.run()["longest_run"]["num_scans"]) == (5, 15)


def test_the_word_for_a_check_that_failed_is_one_of_the_plans(bench, monkeypatch):
    bench.damage(TEST, 0)
    bench.score()
    monkeypatch.setattr(plan, "_was_repaired", lambda *_: (_ for _ in ()).throw(PermissionError("no access")))
    assert plan_scoring(str(bench.folder), bench.model_id, [bench.dataset], None).num_by_reason == {"unreadable": 1}
