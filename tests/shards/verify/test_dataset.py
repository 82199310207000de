"""Each kind of damage to a dataset is found and named; a whole dataset has none."""

import hashlib
import io
import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards import storage
from shards.format.dataset import open_dataset
from shards.format.parquet import parquet_bytes, read_parquet
from shards.shuffle import pack
from shards.verify import dataset as verification
from shards.verify.dataset import CheckedShard
from shards.verify.shard import Damage, check_tar, shard_metadata
from tests.corpora import flip_byte, make_corpus, members_of, png_bytes, rewrite_rows
from tests.shards.plain_calls import convert_plainly, verify_plainly


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset with duplicates and refusals; for copying."""
    corpus = make_corpus(tmp_path_factory.mktemp("c"), num_train=40, num_test=6)
    corpus.add_image("N90000", (corpus.images / "N00001.jpg").read_bytes())
    corpus.add_image("N90001", b"")
    output = tmp_path_factory.mktemp("whole") / "ds"
    convert_plainly(corpus.root, output)
    return output


@pytest.fixture
def root(whole, tmp_path):
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "ds")
    return tmp_path / "ds"


def found(root) -> set[tuple[str, str, str]]:
    return {(damage.file, damage.key, damage.what) for damage in verify_plainly(root)}


TRAIN = "train-00000-of-00002"


def first_row(root, name=TRAIN):
    return read_parquet(f"{root}/samples/{name}.parquet").to_pylist()[0]


def rewrite_train_rows(root, change, name=TRAIN):
    rewrite_rows(root / f"samples/{name}.parquet", change)


def edit_manifest(root, change):
    path = root / "dataset.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1) + "\n")


def test_a_whole_dataset_is_found_whole(root):
    assert verify_plainly(root) == []


def test_a_flipped_byte_of_an_image_names_the_sample(root):
    row = first_row(root)
    flip_byte(root / f"train/{TRAIN}.tar", row["offset_bytes"] + 400)
    assert found(root) == {(f"train/{TRAIN}.tar", row["key"], "checksum_mismatch")}


def test_a_flipped_byte_of_a_header_or_a_json_names_the_sample(root):
    row = first_row(root)
    end = row["offset_bytes"] + row["size_bytes"]
    for at in (5, row["offset_bytes"] - 200, end, end + 600):
        flip_byte(root / f"train/{TRAIN}.tar", at)
        assert found(root) == {(f"train/{TRAIN}.tar", row["key"], "tar_structure")}, at
        flip_byte(root / f"train/{TRAIN}.tar", at)


def test_a_truncated_tar_names_the_sample_it_ends_in(root):
    path = root / f"train/{TRAIN}.tar"
    path.write_bytes(path.read_bytes()[: first_row(root)["offset_bytes"] + 10])
    assert found(root) == {(f"train/{TRAIN}.tar", first_row(root)["key"], "truncated_tar")}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1024], lambda data: data + b"\0"])
def test_a_tar_must_end_with_two_blocks_of_zeros_and_no_more(root, change):
    path = root / f"train/{TRAIN}.tar"
    path.write_bytes(change(path.read_bytes()))
    assert found(root) == {(f"train/{TRAIN}.tar", "", "tar_structure")}


@pytest.mark.parametrize(
    "name", [f"train/{TRAIN}.tar", f"train/{TRAIN}.idx", "quarantine/part-unlisted-00000-of-00001.parquet"]
)
def test_a_missing_file_is_named(root, name):
    (root / name).unlink()
    assert (name, "", "missing_file") in found(root)


def test_missing_rows_are_named_and_break_the_ledger(root):
    (root / f"samples/{TRAIN}.parquet").unlink()
    assert {(f"samples/{TRAIN}.parquet", "", "missing_file"), ("dataset.json", "", "ledger_mismatch")} <= found(root)


@pytest.mark.parametrize("name", ["notes.txt", "train/train-00009-of-00010.tar", "train/.x.tmp", "a\n\x1b[2J/b"])
def test_a_surplus_file_is_named_without_what_a_terminal_would_obey(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).touch()
    assert found(root) == {(name, "", "surplus_file")}
    assert str(verify_plainly(root)[0]).isprintable()


def test_a_changed_index_is_named(root):
    path = root / f"train/{TRAIN}.idx"
    path.write_bytes(path.read_bytes().replace(b"v1.2", b"v1.1"))
    assert found(root) == {(f"train/{TRAIN}.idx", "", "index_mismatch")}


@pytest.mark.parametrize("at", [0, 4, -1, None])
@pytest.mark.parametrize("name", [f"samples/{TRAIN}.parquet", "quarantine/part-unlisted-00000-of-00001.parquet"])
def test_any_flipped_byte_of_a_table_is_named(root, name, at):
    flip_byte(root / name, at)
    assert name in {damage.file for damage in verify_plainly(root)}


def changed(column, value):
    def change(rows):
        rows[0][column] = value

    return change


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("key", "another", "tar_structure"),
        ("sha256", "0" * 64, "checksum_mismatch"),
        ("sha256", "no checksum at all", "checksum_mismatch"),
        ("offset_bytes", 513, "offset_mismatch"),
        ("width_px", 7, "tar_structure"),
        ("labels", {"Gun": 1}, "tar_structure"),
        ("boxes", [{"class": "Gun", "xmin_px": 1, "ymin_px": 1, "xmax_px": 2, "ymax_px": 2}], "tar_structure"),
    ],
)
def test_a_changed_row_is_not_what_the_tar_holds(root, column, value, what):
    rewrite_train_rows(root, changed(column, value))
    assert (f"train/{TRAIN}.tar", first_row(root)["key"], what) in found(root)
    assert (f"samples/{TRAIN}.parquet", "", "row_mismatch") in found(root)


@pytest.mark.parametrize(("column", "value"), [("split", "test"), ("shard", "x.tar"), ("source_uri", "file:///x")])
def test_a_changed_row_that_the_tar_cannot_tell_is_seen_all_the_same(root, column, value):
    rewrite_train_rows(root, changed(column, value))
    assert found(root) == {(f"samples/{TRAIN}.parquet", "", "row_mismatch")}


def test_a_row_that_is_gone_breaks_tar_index_and_ledger(root):
    rewrite_train_rows(root, lambda rows: rows.pop())
    assert {what for _, _, what in found(root)} == {
        *("row_mismatch", "size_mismatch", "tar_structure", "index_mismatch", "ledger_mismatch"),
    }


def test_a_wrong_duplicate_of_is_named_with_the_right_one(root):
    name = "unlisted-00000-of-00001"
    rewrite_train_rows(root, changed("duplicate_of", None), name)
    (damage,) = [damage for damage in verify_plainly(root) if damage.what == "duplicate_mismatch"]
    assert damage == Damage(
        f"samples/{name}.parquet",
        "N90000",
        "duplicate_mismatch",
        "duplicate_of is None, the first key with these bytes is 'N00001'",
    )


def test_a_key_that_occurs_twice_is_named():
    rows = [("a", "1", "train-0", None), ("b", "2", "train-0", None), ("a", "3", "test-0", None)]
    (damage,) = verification.verify_keys([pack(rows)])
    assert damage == Damage("samples/train-0.parquet", "a", "key_twice", "the key is also in test-0")


def test_a_shard_that_is_listed_twice_has_every_key_twice(root):
    dataset = open_dataset(str(root))
    shards = [verification.verify_shard(dataset, dataset.manifest.shards[0])] * 2
    batches = [batch for shard in shards for _, batch in verification.batch_rows_by_key(shard, 3)]
    damages = list(verification.verify_keys(batches))
    assert {damage.what for damage in damages} == {"key_twice"}
    assert len(damages) == dataset.manifest.shards[0].num_scans


def test_rows_of_another_schema_are_unreadable(root):
    path = root / f"samples/{TRAIN}.parquet"
    pq.write_table(read_parquet(str(path)).drop_columns(["boxes"]), path)
    assert (f"samples/{TRAIN}.parquet", "", "unreadable_table") in found(root)


@pytest.mark.parametrize("metadata", [None, {b"sixray": b"{"}, {b"sixray": b"[]"}, {b"sixray": b'{"plan":1}'}])
def test_rows_without_their_metadata_are_unreadable(root, metadata):
    path = root / f"samples/{TRAIN}.parquet"
    table = read_parquet(str(path)).replace_schema_metadata(metadata)
    path.write_bytes(parquet_bytes(table))
    assert (f"samples/{TRAIN}.parquet", "", "unreadable_table") in found(root)
    with pytest.raises(ValueError, match=r"metadata 'sixray'|Expecting property name"):
        shard_metadata(table)


def test_a_ledger_that_is_not_what_the_shards_hold_is_named(root):
    def change(document):
        counts = document["ledger"]["splits"]["train"]
        counts["listed"] += 1
        counts["converted"] += 1
        document["ledger"]["listed"] += 1
        document["ledger"]["converted"] += 1

    edit_manifest(root, change)
    assert found(root) == {("dataset.json", "", "ledger_mismatch")}


@pytest.mark.parametrize("name", ["listed", "converted", "quarantined"])
def test_totals_that_are_not_the_sums_are_named(root, name):
    edit_manifest(root, lambda document: document["ledger"].update({name: 7}))
    assert found(root) == {("dataset.json", "", "manifest_mismatch")}


def test_refusals_with_another_reason_break_ledger_and_checksum(root):
    path = root / "quarantine/part-unlisted-00000-of-00001.parquet"
    table = read_parquet(str(path))
    rows = [row | {"reason": "other"} for row in table.to_pylist()]
    path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=table.schema)))
    name = f"quarantine/{path.name}"
    assert found(root) == {(name, "", "checksum_mismatch"), ("dataset.json", "", "ledger_mismatch")}


def test_a_digest_in_the_manifest_is_compared_with_the_tars(root):
    dataset = open_dataset(str(root))
    info = replace(dataset.manifest.shards[0], digest="0" * 64, tar_bytes=1)
    damages = verification.verify_shard(dataset, info).damages
    assert [damage.what for damage in damages] == ["row_mismatch", "row_mismatch"]
    assert [damage.detail.partition(":")[0] for damage in damages] == ["digest of the tar", "size of the tar"]


def test_a_tar_that_agrees_with_forged_rows_does_not_have_their_digest(root):
    """Image and row changed together, so that each agrees with the other: only the digest tells."""
    row = first_row(root)
    path = root / f"train/{TRAIN}.tar"
    flip_byte(path, row["offset_bytes"] + 400)
    image = storage.read_range(path, row["offset_bytes"], row["size_bytes"])
    rewrite_train_rows(root, changed("sha256", hashlib.sha256(image).hexdigest()))
    assert (f"train/{TRAIN}.tar", "", "digest_mismatch") in found(root)


def test_an_empty_tar_of_no_rows_is_two_blocks_of_zeros():
    assert check_tar(io.BytesIO(bytes(1024)), [], "x.tar")[0] == []


def test_a_damage_reads_as_one_line():
    assert str(Damage("a.tar", "P1", "what", "why")) == "a.tar: P1: what: why"
    assert str(Damage("a\x1b.tar", "", "what", "w\nhy")) == "a\\x1b.tar: what: w\\x0ahy"


def test_counts_without_rows_are_enough_for_the_ledger(root):
    dataset = open_dataset(str(root))
    empty = CheckedShard("train", 0, {}, (), (), 0)
    (damage,) = [d for d in verification.verify_ledger(dataset, [empty]) if "'train'" in d.detail]
    assert damage.what == "ledger_mismatch"
    assert damage.detail.startswith("split 'train': shards hold (0, 0, {}), the ledger says {'listed': 40")


def test_a_png_stands_in_tar_and_index_under_its_own_extension(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=6, num_test=0)
    corpus.add_image("N90000", png_bytes(1), suffix=".JPG")
    corpus.add_image("N90001", png_bytes(2, mode="RGBA"), suffix=".png")
    corpus.add_image("N90002", suffix=".jfif")
    convert_plainly(corpus.root, tmp_path / "ds")
    assert verify_plainly(tmp_path / "ds") == []
    names = set(members_of(tmp_path / "ds"))
    assert {"N90000.png", "N90001.png", "N90002.jpg"} <= names and "N90000.jpg" not in names
    index = (tmp_path / "ds/unlisted/unlisted-00000-of-00001.idx").read_text()
    assert index.count("\npng ") == 2 and index.count("\njpg ") == 1
    # A tar without its index's word, and an index that contradicts its tar, are both seen.
    path = tmp_path / "ds/unlisted/unlisted-00000-of-00001.idx"
    path.write_text(index.replace("png ", "jpg ").replace(".png", ".jpg"))
    assert found(tmp_path / "ds") == {("unlisted/unlisted-00000-of-00001.idx", "", "index_mismatch")}


def test_a_png_that_lost_its_first_bytes_is_named_once(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=6, num_test=0)
    corpus.add_image("N90000", png_bytes(1))
    convert_plainly(corpus.root, tmp_path / "ds")
    name = "unlisted-00000-of-00001"
    flip_byte(tmp_path / f"ds/unlisted/{name}.tar", first_row(tmp_path / "ds", name)["offset_bytes"])
    assert found(tmp_path / "ds") == {(f"unlisted/{name}.tar", "N90000", "checksum_mismatch")}
