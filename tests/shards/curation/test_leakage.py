"""Groups that cross splits are reported and, on request, moved into one split."""

import json

import pyarrow.parquet as pq
import pytest

from shards.curation.findings import describe_findings
from shards.curation.leakage import Member, make_group
from shards.format.dataset import open_dataset
from shards.verify import dataset as verification
from tests.corpora import flip_byte, jpeg_bytes, make_corpus
from tests.shards.plain_calls import convert_plainly, verify_plainly


@pytest.fixture
def leaky(tmp_path):
    """A corpus with a group in train and test, one in train alone, and one in train and unlisted."""
    corpus = make_corpus(tmp_path / "c", num_train=20, num_test=4)
    for key, seed, split in [("A", 1, "train"), ("B", 1, "test"), ("C", 1, ""), ("D", 2, "train"), ("E", 2, "train")]:
        corpus.add_image(key, jpeg_bytes(seed))
        if split:
            corpus.add_row(key, split=split)
    for key, split in (("F", "train"), ("G", "")):
        corpus.add_image(key, jpeg_bytes(3))
        if split:
            corpus.add_row(key, split=split)
    return corpus


def test_a_group_that_crosses_train_and_test_is_reported_with_its_members(leaky, tmp_path):
    manifest = convert_plainly(leaky.root, tmp_path / "ds", seed=1)
    assert pq.read_table(tmp_path / "ds/leakage.parquet").to_pylist() == [
        {"kind": "byte_equal", "group": "A", "key": key, "split": split}
        for key, split in (("A", "train"), ("B", "test"), ("C", "unlisted"))
    ]
    assert manifest.leakage["kinds"] == {"byte_equal": {"num_groups": 1, "num_scans": 3, "examples": ["A"]}}
    assert json.loads((tmp_path / "ds/dataset.json").read_text())["leakage"] == manifest.leakage
    assert open_dataset(str(tmp_path / "ds")).manifest == manifest
    assert list(describe_findings({"leakage": manifest.leakage})) == [
        "leakage: 1 byte_equal groups of 3 scans cross splits (A)"
    ]
    assert verify_plainly(tmp_path / "ds") == []


def test_without_a_leak_there_is_no_table_and_an_old_one_goes(leaky, tmp_path):
    convert_plainly(leaky.root, tmp_path / "ds")
    (leaky.images / "B.jpg").write_bytes(jpeg_bytes(99, (48, 40)))
    manifest = convert_plainly(leaky.root, tmp_path / "ds")
    assert manifest.leakage == {} and not (tmp_path / "ds/leakage.parquet").exists()
    assert "leakage" not in json.loads((tmp_path / "ds/dataset.json").read_text())


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_table_is_named_and_made_again(leaky, tmp_path, damage):
    convert_plainly(leaky.root, tmp_path / "ds")
    path = tmp_path / "ds/leakage.parquet"
    whole = path.read_bytes()
    if damage == "flip":
        flip_byte(path, 0)
    else:
        path.unlink()
    word = {"flip": "checksum_mismatch", "remove": "missing_file"}[damage]
    assert [(found.file, found.what) for found in verify_plainly(tmp_path / "ds")] == [("leakage.parquet", word)]
    convert_plainly(leaky.root, tmp_path / "ds")
    assert path.read_bytes() == whole


def test_a_table_that_belongs_to_no_dataset_is_surplus(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=6, num_test=0)
    convert_plainly(corpus.root, tmp_path / "ds")
    (tmp_path / "ds/leakage.parquet").write_bytes(b"x")
    dataset = open_dataset(str(tmp_path / "ds"))
    assert [found.what for found in verification.verify_ledger(dataset, []) if found.file == "leakage.parquet"] == [
        "surplus_file"
    ]


def test_members_are_named_in_order():
    assert list(make_group("x", [("b", "test"), ("a", "train")])) == [
        Member("x", "a", "a", "train"),
        Member("x", "a", "b", "test"),
    ]
