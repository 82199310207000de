"""Test the bytes of shards against tarfile, webdataset and DALI's indexer."""

import hashlib
import importlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from shards.format.classes import sample_json
from shards.format.keys import MAX_KEY_BYTES
from shards.format.tar import BLOCK_BYTES, TarShardWriter, index_line, join_index, make_header, pack_samples, padding
from shards.images.inspect import Extension
from tests.shards.format.test_classes import COORDINATES, make_row


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abzAZ019_-~()+,=@%."), min_size=1, max_size=100), st.integers(0, 64 * 1024 * 1024))
def test_a_header_is_the_one_that_tarfile_makes(name, size_bytes):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    assert make_header(name, size_bytes) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("size_bytes", "expected"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding_fills_the_last_block(size_bytes, expected):
    assert padding(size_bytes) == bytes(expected)


KEYS = st.text(st.sampled_from("abzAZ019_-~()+,=@%"), min_size=1, max_size=MAX_KEY_BYTES)
BOXES = st.lists(st.tuples(st.sampled_from(["Gun", "Hammer"]), *[COORDINATES] * 4), max_size=3)
IMAGES = st.one_of(
    st.binary(max_size=3 * BLOCK_BYTES), st.binary(max_size=BLOCK_BYTES).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail)
)
SAMPLES = st.dictionaries(KEYS, st.tuples(IMAGES, BOXES), min_size=1, max_size=6)


Samples = dict[str, tuple[bytes, list[Any]]]


def write(samples: Samples, samples_a_piece: int = 2) -> tuple[bytes, TarShardWriter, list[dict[str, Any]], str]:
    out = io.BytesIO()
    writer = TarShardWriter(out)
    made = [(make_row(key, image, boxes), image) for key, (image, boxes) in samples.items()]
    rows = []
    for at in range(0, len(made), samples_a_piece):
        piece = made[at : at + samples_a_piece]
        offsets = writer.write(pack_samples(piece))
        for (row, image), offset in zip(piece, offsets, strict=True):
            rows.append(row | {"offset_bytes": offset, "size_bytes": len(image)})
    digest = writer.finish()
    return out.getvalue(), writer, rows, digest


def dali_index(tar_path: Path) -> bytes:
    """Return the index that DALI's own tool makes."""
    index_path = tar_path.with_suffix(".made-by-dali")
    with importlib.import_module("wds2idx").IndexCreator(str(tar_path), str(index_path), verbose=False) as creator:
        creator.create_index()
    return index_path.read_bytes()


@settings(max_examples=50, deadline=None)
@given(SAMPLES)
def test_tarfile_reads_back_what_was_written_and_nothing_else(samples):
    data, writer, rows, digest = write(samples)
    assert len(data) == writer.size_bytes
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        members = tar.getmembers()
        contents = [tar.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    assert [member.name for member in members] == [
        f"{key}.{end}" for key, (image, _) in samples.items() for end in (extension_of(image), "json")
    ]
    assert {(m.mode, m.mtime, m.uid, m.gid, m.uname, m.gname, m.type) for m in members} == {
        (0o644, 0, 0, 0, "", "", tarfile.REGTYPE)
    }
    assert contents[0::2] == [image for image, _ in samples.values()]
    assert contents[1::2] == [sample_json(row) for row in rows]
    assert [row["offset_bytes"] for row in rows] == [member.offset_data for member in members[0::2]]
    assert writer.image_bytes == sum(len(image) for image, _ in samples.values())
    assert digest == digest_by_hand(data, rows)


@settings(max_examples=20, deadline=None)
@given(SAMPLES, st.integers(1, 9))
def test_how_samples_are_parted_into_pieces_changes_nothing(samples, samples_a_piece):
    data, writer, rows, digest = write(samples, samples_a_piece)
    assert (data, rows, digest) == (write(samples, 1)[0], *write(samples, 1)[2:])
    assert writer.index() == write(samples, 1)[1].index()


def extension_of(image: bytes) -> Extension:
    return "png" if image[:8] == b"\x89PNG\r\n\x1a\n" else "jpg"


def digest_by_hand(data: bytes, rows) -> str:
    """The definition in words: the tar's bytes, each image standing as its own sha256."""
    digest, at = hashlib.sha256(), 0
    for row in rows:
        digest.update(data[at : row["offset_bytes"]] + bytes.fromhex(row["sha256"]))
        at = row["offset_bytes"] + row["size_bytes"]
    digest.update(data[at:])
    return digest.hexdigest()


@settings(max_examples=15, deadline=None)
@given(SAMPLES)
def test_webdataset_and_dalis_indexer_agree_with_the_writer(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("tar") / "s.tar"
    data, writer, rows, _ = write(samples)
    path.write_bytes(data)
    read = list(group_by_keys(tar_file_expander([{"url": path.name, "stream": io.BytesIO(data)}])))
    images = [samples[row["key"]][0] for row in rows]
    assert [
        (item["__key__"], item[extension_of(image)], item["json"]) for item, image in zip(read, images, strict=True)
    ] == [(row["key"], image, sample_json(row)) for row, image in zip(rows, images, strict=True)]
    assert writer.index() == dali_index(path)
    lines = [index_line(row, extension_of(image)) for row, image in zip(rows, images, strict=True)]
    assert join_index(lines) == writer.index()


def test_equal_samples_give_equal_bytes_and_another_byte_another_digest():
    one: Samples = {"a": (b"x" * 600, []), "b": (b"y", [])}
    other: Samples = {"a": (b"x" * 599 + b"z", []), "b": (b"y", [])}
    assert write(one)[0] == write(one)[0]
    assert write(one)[3] != write(other)[3]
    assert write(one)[3] != write({"b": one["b"], "a": one["a"]})[3]


def test_the_longest_key_fills_the_name_field():
    key = "k" * MAX_KEY_BYTES
    with tarfile.open(fileobj=io.BytesIO(write({key: (b"image", [])})[0])) as tar:
        assert tar.getnames() == [f"{key}.jpg", f"{key}.json"]
