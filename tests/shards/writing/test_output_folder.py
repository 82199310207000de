"""Folders that hold other files are refused as output."""

import json

import pytest
import webdataset

from shards import storage
from shards.writing import output_folder
from shards.writing.output_folder import check_output, claim_output, find_finished
from tests.corpora import make_corpus
from tests.shards.plain_calls import convert_plainly


def test_an_empty_or_absent_folder_or_a_dataset_is_a_fine_output(tmp_path):
    check_output(str(tmp_path))
    check_output(str(tmp_path / "absent"))
    convert_plainly(make_corpus(tmp_path / "c").root, tmp_path / "ds")
    check_output(f"{tmp_path}/ds/")


@pytest.mark.parametrize(
    "name", ["notes.txt", "train/a.tar", "samples/x.parquet", "train/sub/train-00000-of-00001.tar", "dataset.json.bak"]
)
def test_a_folder_with_a_foreign_file_is_no_output(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    expected = rf"output must be an empty folder or a dataset, got one with '{name}' \({tmp_path}\)"
    with pytest.raises(ValueError, match=expected):
        check_output(str(tmp_path))


@pytest.mark.parametrize("data", [b"", b"years of work", None])
def test_tars_of_others_by_names_like_ours_are_not_ours(tmp_path, data):
    path = tmp_path / "train/train-00000-of-00010.tar"
    path.parent.mkdir()
    if data is None:
        with webdataset.TarWriter(str(path)) as out:
            out.write({"__key__": "a", "jpg": b"years of work"})
    else:
        path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"output must be an empty folder or a dataset, got one with 'train/train-00000"
    ):
        check_output(str(tmp_path))


def test_tars_of_a_conversion_that_was_stopped_are_ours(tmp_path):
    convert_plainly(make_corpus(tmp_path / "c").root, tmp_path / "ds")
    for path in [tmp_path / "ds/dataset.json", *(tmp_path / "ds/samples").iterdir()]:
        path.unlink()
    check_output(str(tmp_path / "ds"))


def test_a_file_is_no_output(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=rf"output must be a folder, got a file \({tmp_path}/file\)"):
        check_output(str(tmp_path / "file"))


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
    monkeypatch.setattr(output_folder, "_RETRIED_REASONS", {"x"})
    manifest = json.loads((output / "dataset.json").read_text())
    manifest["ledger"]["splits"]["train"] |= {"listed": 9, "quarantined": 1, "quarantined_by_reason": {"x": 1}}
    (output / "dataset.json").write_text(json.dumps(manifest))
    assert find(output) is None
