"""Test what becomes of a dataset or a job that the output folder holds already."""

import json

import pytest

from shards import storage
from shards.writing import existing_output
from shards.writing.existing_output import claim_output, find_finished
from tests.corpora import make_corpus
from tests.shards.plain_calls import convert_plainly

OPTIONS = {"shard_bytes": 20_000}


@pytest.fixture
def output(tmp_path):
    convert_plainly(make_corpus(tmp_path / "c", num_train=8, num_test=4).root, tmp_path / "ds")
    return tmp_path / "ds"


def find(output, options=None, newest=0.0, overwrite=False):
    return find_finished(str(output), options or OPTIONS, lambda: newest, overwrite=overwrite)


def test_the_same_job_over_its_finished_dataset_has_nothing_to_do(output):
    found = find(output)
    assert found is not None and found.num_scans == 12
    # A release that knows more options takes those that the old one lacked for their defaults.
    assert find(output, OPTIONS | {"transcode": False, "on_missing": "quarantine", "metadata": ""}) == found


def test_what_was_changed_since_is_looked_at_again(output):
    assert find(output, newest=(output / "dataset.json").stat().st_ctime) is None
    assert find(output, newest=None) is None
    tar = next(output.glob("train/*.tar"))
    tar.write_bytes(tar.read_bytes())
    assert find(output) is None


def test_a_file_that_is_gone_is_made_again(output):
    next(output.glob("train/*.idx")).unlink()
    assert find(output) is None


def test_another_command_is_refused_with_what_differs_unless_told_to_overwrite(output):
    options = OPTIONS | {"input": "file:///other", "transcode": True}
    expected = (
        r"output must be .*, got the finished dataset of another command \(.*\): input is null there and "
        r'"file:///other" here; transcode is null there and true here; give another --output, or --overwrite'
    )
    with pytest.raises(ValueError, match=expected):
        find(output, options)
    assert find(output, options, overwrite=True) is None


def test_another_job_that_may_be_running_is_refused(tmp_path, monkeypatch):
    output = tmp_path / "ds"
    assert find(output) is None
    with claim_output(str(output), OPTIONS):
        assert find(output, {"shard_bytes": 1}) is None  # this process wrote the mark
        mark = json.loads((output / "_drafts/job.json").read_text())
        (output / "_drafts/job.json").write_text(json.dumps(mark | {"process": "elsewhere.1-1"}))
        assert find(output) is None
        with pytest.raises(ValueError, match=r"that of another job, begun by elsewhere.1-1, .*: shard_bytes is 2"):
            find(output, {"shard_bytes": 1})
        assert find(output, {"shard_bytes": 1}, overwrite=True) is None
        host = storage.this_process().partition(".")[0]
        (output / "_drafts/job.json").write_text(json.dumps(mark | {"process": f"{host}.{2**30}-1"}))
        assert find(output, {"shard_bytes": 1}) is None  # it was killed
    assert not output.exists()


def test_scans_that_could_not_be_read_are_tried_again(output, monkeypatch):
    monkeypatch.setattr(existing_output, "_RETRIED_REASONS", {"x"})
    manifest = json.loads((output / "dataset.json").read_text())
    manifest["ledger"]["splits"]["train"] |= {"listed": 9, "quarantined": 1, "quarantined_by_reason": {"x": 1}}
    (output / "dataset.json").write_text(json.dumps(manifest))
    assert find(output) is None
