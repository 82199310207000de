"""Test writing and reading of manifests, and the refusal of damaged ones."""

import json

import pytest

from shards.format import dataset as datasets
from shards.format.dataset import open_dataset
from shards.format.json_document import DamagedDocumentError
from shards.format.manifest import SHARD_NAME, DatasetManifest, ShardInfo, SplitLedger, shard_name
from tests.shards.plain_calls import convert_plainly


def make_shard(name="train-00000-of-00001", num_scans=2, num_quarantined=1):
    return ShardInfo(
        name=name,
        split=name.partition("-")[0],
        num_scans=num_scans,
        num_quarantined=num_quarantined,
        image_bytes=10,
        tar_bytes=20,
        digest="d" * 64,
        samples_sha256="s" * 64,
        quarantine_sha256="q" * 64,
    )


def make_manifest(**changes):
    fields = {
        "classes": ("Gun", "Hammer"),
        "scored_classes": ("Gun",),
        "shards": (make_shard(),),
        "ledger": {"train": SplitLedger(listed=3, converted=2, quarantined=1, quarantined_by_reason={"x": 1})},
        "options": {"input": "file:///c"},
        "versions": {"python": "3"},
    }
    return DatasetManifest(**(fields | changes))


def test_a_manifest_is_read_back_as_it_was_written():
    manifest = make_manifest()
    assert DatasetManifest.from_json(manifest.to_json(), "url") == manifest
    document = json.loads(manifest.to_json())
    assert document["format"] == 2
    assert document["splits"]["train"] == {"num_scans": 2, "num_shards": 1, "image_bytes": 10, "tar_bytes": 20}
    ledger = document["ledger"]
    assert (ledger["listed"], ledger["converted"], ledger["quarantined"]) == (3, 2, 1)
    assert not {"metadata", "repairs"} & set(document)


def test_a_manifest_of_format_1_is_read_and_keeps_its_number_and_columns():
    old = make_manifest(format_version=1)
    assert json.loads(old.to_json())["format"] == 1
    read = DatasetManifest.from_json(old.to_json(), "url")
    assert read == old and "group" not in read.samples_schema.names
    assert "group" in make_manifest().samples_schema.names


def test_a_manifest_names_the_fields_of_the_metadata():
    manifest = make_manifest(metadata={"site": "string", "taken": "date"})
    assert DatasetManifest.from_json(manifest.to_json(), "url") == manifest
    assert manifest.samples_schema.field("metadata").type.num_fields == 2
    with pytest.raises(DamagedDocumentError, match=r"types of metadata must be of \['string', .*, got \['blob'\]"):
        make_manifest(metadata={"site": "blob"})


def test_shards_in_another_order_give_the_same_text_and_digest():
    one, other = make_shard("train-00000-of-00002"), make_shard("train-00001-of-00002")
    ledger = {"train": SplitLedger(listed=6, converted=4, quarantined=2)}
    forward, backward = (make_manifest(shards=s, ledger=ledger) for s in ((one, other), (other, one)))
    assert forward.to_json() == backward.to_json()
    assert forward.digest == backward.digest != make_manifest().digest
    assert forward.num_scans == 4 and forward.splits == ("train",)


def test_a_ledger_that_does_not_add_up_cannot_be_made():
    with pytest.raises(
        DamagedDocumentError,
        match=r"ledger of split 'train' must have listed = converted \+ quarantined, got 4 = 2 \+ 1; a scan is unacc",
    ):
        make_manifest(ledger={"train": SplitLedger(listed=4, converted=2, quarantined=1)})


def edit(**changes) -> bytes:
    document = json.loads(make_manifest().to_json())
    for name, value in changes.items():
        if value is None:
            del document[name]
        else:
            document[name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"{}"),
        *(edit(shards=None), edit(digest=None), edit(shards=[{"name": 1}])),
        *(edit(ledger={"splits": []}), edit(ledger=[]), edit(classes=1)),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(text):
    expected = (
        r"dataset manifest must be a JSON document of format 1 or 2, got .* \(the-url\); run `sixray convert` again"
    )
    with pytest.raises(DamagedDocumentError, match=expected):
        DatasetManifest.from_json(text, "the-url")


def test_another_format_is_named():
    with pytest.raises(
        ValueError, match=r"dataset must have format 1 or 2, got 3 \(u\); read it with the release of"
    ) as info:
        DatasetManifest.from_json(edit(format=3), "u")
    assert not isinstance(info.value, DamagedDocumentError)


def test_a_digest_that_is_not_that_of_the_shards_is_refused():
    with pytest.raises(DamagedDocumentError, match=r"dataset digest must be that of its shards \w{64}, got 00 \(u\)"):
        DatasetManifest.from_json(edit(digest="00"), "u")


def test_a_folder_without_a_manifest_is_unfinished(tmp_path):
    expected = (
        rf"dataset must have a dataset.json, got none \({tmp_path}\); the conversion did not finish: run the same"
    )
    with pytest.raises(ValueError, match=expected):
        open_dataset(str(tmp_path))
    with pytest.raises(ValueError, match=r"dataset must have a dataset\.json, got none"):
        open_dataset(str(tmp_path / "absent"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"dataset must have a dataset\.json, got none"):
        open_dataset(str(tmp_path / "file"))


def test_rows_are_read_a_split_in_tar_order(tmp_path, corpus):
    convert_plainly(corpus.root, tmp_path / "ds")
    dataset = open_dataset(str(tmp_path / "ds"))
    keys = dataset.read_samples("train", columns=["key"])["key"].to_pylist()
    assert set(keys) == {f"{'P' if n % 3 == 0 else 'N'}{n:05d}" for n in range(40)}
    assert dataset.read_samples().num_rows == 46
    assert dataset.read_samples(shards=()).num_rows == 0
    assert dataset.read_samples(shards=(), columns=["key"]).column_names == ["key"]
    with pytest.raises(ValueError, match=r"split must be one of \['test', 'train'\], got 'val' \("):
        dataset.read_samples("val")


def test_shards_without_samples_are_not_offered_to_readers(tmp_path):
    empty = make_shard("test-00000-of-00001", num_scans=0)
    ledger = {
        "train": SplitLedger(listed=3, converted=2, quarantined=1),
        "test": SplitLedger(listed=1, converted=0, quarantined=1),
    }
    manifest = make_manifest(shards=(make_shard(), empty), ledger=ledger)
    dataset = datasets.Dataset(str(tmp_path), manifest)
    assert dataset.shards() == (make_shard(),)
    assert dataset.shards("test") == ()
    shard = dataset.shards()[0]
    stem = f"{tmp_path}/train/train-00000-of-00001"
    assert (dataset.tar_url(shard), dataset.index_url(shard)) == (f"{stem}.tar", f"{stem}.idx")


def test_names_of_shards_sort_as_they_count():
    names = [shard_name("train", index, 12) for index in range(12)]
    assert names[7] == "train-00007-of-00012" and names == sorted(names)
    assert all(SHARD_NAME.fullmatch(name) for name in names)
