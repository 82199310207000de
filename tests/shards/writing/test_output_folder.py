"""Folders that hold other files are refused as output."""

import pytest
import webdataset

from shards.writing.output_folder import check_output
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
