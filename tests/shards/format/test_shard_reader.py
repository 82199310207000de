"""Test reading the images of a shard against their rows."""

import tarfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards import storage
from shards.format.shard_reader import Buffers, find_rows, read_image_of_row, read_rows, read_scans
from tests.shards.by_hand import absurd_header, make_jpeg, overwrite, write_dataset

NAME = "test-00000-of-00001"
IMAGES = [(f"N{number:05d}", make_jpeg(number)) for number in range(12)]


@pytest.fixture
def shard(tmp_path):
    """Rows and path of a sound shard."""
    return written(tmp_path, IMAGES)


def written(root: Path, images):
    dataset = write_dataset(root, {NAME: images})
    (info,) = dataset.shards()
    return read_rows(dataset.samples_url(info), info.num_scans), Path(dataset.tar_url(info))


def read_all(tar, rows, batch_size=5):
    return [scan for batch in read_scans(str(tar), rows, batch_size) for scan in batch]


def reasons(scans):
    return {scan.row.key: scan.refusal.reason for scan in scans if scan.refusal is not None}


@given(batch_size=st.integers(1, 20))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_scan_comes_once_in_order_whatever_the_batch(shard, batch_size):
    rows, tar = shard
    batches = list(read_scans(str(tar), rows, batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    scans = [scan for batch in batches for scan in batch]
    assert [(scan.row.key, scan.image) for scan in scans] == IMAGES
    assert all(scan.refusal is None for scan in scans)


@given(
    damage=st.dictionaries(st.integers(0, 11), st.sampled_from(["zeros", "flip", "half"]), min_size=1),
    batch_size=st.integers(1, 13),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_costs_its_own_rows_and_no_others(shard, damage, batch_size):
    rows, tar = shard
    sound = tar.read_bytes()
    for place, kind in damage.items():
        offset, size = rows[place].offset_bytes, rows[place].size_bytes
        if kind == "zeros":
            overwrite(tar, offset, bytes(size))
        elif kind == "half":
            overwrite(tar, offset + size // 2, bytes(size - size // 2))
        else:
            overwrite(tar, offset + size // 2, bytes([sound[offset + size // 2] ^ 0x10]))
    scans = read_all(tar, rows, batch_size)
    tar.write_bytes(sound)
    assert reasons(scans) == {rows[place].key: "checksum_mismatch" for place in damage}
    good = [(scan.row.key, scan.image) for scan in scans if scan.image is not None]
    assert good == [pair for place, pair in enumerate(IMAGES) if place not in damage]


def test_a_refusal_has_the_checksum_of_what_was_read(shard):
    rows, tar = shard
    overwrite(tar, rows[3].offset_bytes, b"\0")
    scan = read_all(tar, rows)[3]
    assert scan.image is None
    assert scan.refusal.sha256 not in (None, rows[3].sha256)
    assert rows[3].sha256 in scan.refusal.detail and scan.refusal.sha256 in scan.refusal.detail


def test_a_truncated_tar_costs_what_stands_behind_the_end(shard):
    rows, tar = shard
    with tar.open("r+b") as handle:
        handle.truncate(rows[7].offset_bytes + 10)
    scans = read_all(tar, rows)
    assert reasons(scans) == {row.key: "truncated_shard" for row in rows[7:]}
    assert scans[7].refusal.sha256 is not None and scans[8].refusal.sha256 is None
    assert "after 10 of" in scans[7].refusal.detail


def test_a_missing_tar_is_named_by_every_row(shard):
    rows, tar = shard
    tar.unlink()
    scans = read_all(tar, rows)
    assert reasons(scans) == {row.key: "missing_shard" for row in rows}
    assert f"{NAME}.tar" in scans[0].refusal.detail


def test_what_another_tool_packed_anew_is_found_by_name_and_what_it_left_out_is_missing(shard, tmp_path):
    rows, tar = shard
    with tarfile.open(tar) as old, tarfile.open(tmp_path / "new.tar", "w", format=tarfile.GNU_FORMAT) as new:
        for member in old:
            if member.name == "N00004.jpg":
                continue
            if member.name == "N00006.jpg":
                member.size = 0
            new.addfile(member, old.extractfile(member) if member.size else None)
    (tmp_path / "new.tar").replace(tar)
    scans = read_all(tar, rows)
    assert reasons(scans) == {"N00004": "missing_component", "N00006": "empty_file"}
    assert [(scan.row.key, scan.image) for scan in scans if scan.image is not None] == [
        pair for pair in IMAGES if pair[0] not in ("N00004", "N00006")
    ]


def test_headers_that_cannot_be_true_are_refused_before_anything_is_decoded(tmp_path):
    jpeg = make_jpeg(1)
    images = [
        ("good", jpeg),
        ("absurd", absurd_header(jpeg)),
        ("cut", jpeg[: len(jpeg) // 2]),
        ("text", b"not a picture"),
        ("empty", b""),
    ]
    rows, tar = written(tmp_path, images)
    rows[0] = rows[0]._replace(width_px=17)
    assert reasons(read_all(tar, rows)) == {
        "good": "size_mismatch",
        "absurd": "oversized_image",
        "cut": "truncated_jpeg",
        "text": "unknown_format",
        "empty": "empty_file",
    }


def test_a_remote_shard_reads_as_a_local_one(shard):
    rows, tar = shard
    fsspec.filesystem("memory").pipe_file("/bucket/shard.tar", tar.read_bytes())
    scans = read_all("memory://bucket/shard.tar", rows, batch_size=2)
    assert [(scan.row.key, scan.image) for scan in scans] == IMAGES
    assert reasons(read_all("memory://bucket/other.tar", rows)) == {row.key: "missing_shard" for row in rows}


def test_a_tar_that_cannot_be_read_now_is_no_reason_to_refuse_scans(shard, tmp_path):
    rows, _ = shard
    with pytest.raises(IsADirectoryError):
        read_all(tmp_path, rows)


def test_rows_that_are_not_as_many_as_the_manifest_says_are_an_error(tmp_path):
    dataset = write_dataset(tmp_path, {NAME: IMAGES})
    (info,) = dataset.shards()
    with pytest.raises(ValueError, match=r"samples of a shard must have 13 rows, got 12 .*sixray verify"):
        read_rows(dataset.samples_url(info), 13)


def test_images_keep_their_bytes_while_memory_is_used_again(shard):
    rows, tar = shard
    buffers, kept = Buffers(), []
    for _ in range(3):
        for batch in read_scans(str(tar), rows, 3, buffers=buffers):
            kept.append(batch[1])
            assert all(scan.image == dict(IMAGES)[scan.row.key] for scan in batch)
    assert all(scan.image == dict(IMAGES)[scan.row.key] for scan in kept)


def test_memory_is_used_again_once_no_view_of_it_is_left():
    buffers = Buffers()
    whole = buffers.take(100)
    part, address = whole[7:9], whole.obj
    del whole
    assert buffers.take(100).obj is not address
    del part
    assert buffers.take(100).obj is address
    assert len(buffers.take(1000)) == 1000


def test_leaving_early_stops_the_readers(shard):
    rows, tar = shard
    batches = read_scans(str(tar), rows, 1)
    assert next(batches)[0].row.key == rows[0].key
    batches.close()
    assert storage.exists(tar)


def test_an_image_is_found_by_its_key(tmp_path):
    dataset = write_dataset(tmp_path, {NAME: IMAGES[:6], "train-00000-of-00001": IMAGES[6:]})
    keys = ["N00007", "N00002", "absent"]
    found = find_rows(dataset, keys)
    assert sorted(found) == ["N00002", "N00007"]
    assert {key: read_image_of_row(*place) for key, place in found.items()} == dict([IMAGES[2], IMAGES[7]])
    assert list(find_rows(dataset, keys, "train")) == ["N00007"]


def test_an_image_that_is_not_what_its_row_says_is_refused(shard):
    rows, tar = shard
    overwrite(tar, rows[3].offset_bytes, b"\0")
    expected = r"image of sample 'N00003' must be as its row says, got checksum_mismatch: .*; run `sixray verify`"
    with pytest.raises(ValueError, match=expected):
        read_image_of_row(str(tar), rows[3])
