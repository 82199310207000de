"""Streamed images are spooled whole and removed when the dataset is finished."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from shards import storage
from shards.corpus.archives import read_place
from shards.corpus.streams import spool as stream_spool
from shards.corpus.streams.spool import spool_stream
from tests.corpora import (
    files_of,
    images_of,
    jpeg_bytes,
    make_corpus,
    pack_release,
    payload_of,
    png_bytes,
    reasons_of,
    rows_of,
    stamps_of,
)
from tests.shards.plain_calls import convert_plainly


def make_tar(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


MEMBERS = {f"JPEGImage/{number}.jpg": bytes([number]) * (1000 + number) for number in range(20)}


@pytest.mark.parametrize("segment_bytes", [1, 5_000, 1 << 30])
def test_every_image_is_a_range_of_a_segment(tmp_path, monkeypatch, segment_bytes):
    monkeypatch.setattr(stream_spool, "SEGMENT_BYTES", segment_bytes)
    found = spool_stream([make_tar(tmp_path / "a.tar.gz", MEMBERS)], f"{tmp_path}/d", 10_000)
    assert {image.name: read_place(image.place, 10_000) for image in found.images() if image.place} == MEMBERS
    assert found.problem == ""
    assert found.num_segments == {1: 21, 5_000: 5, 1 << 30: 1}[segment_bytes]


def test_what_is_too_large_or_no_file_is_named_and_not_kept(tmp_path):
    url = make_tar(tmp_path / "a.tar.gz", {"big": bytes(50_000), "small": b"x"})
    found = spool_stream([url], f"{tmp_path}/d", 10_000)
    assert [(image.name, image.size_bytes, image.place is None) for image in found.images()] == [
        ("big", 50_000, True),
        ("small", 1, False),
    ]
    assert sum(path.stat().st_size for path in (tmp_path / "d").glob("*.bin")) == 1


def test_what_was_laid_out_is_not_laid_out_again_unless_the_archive_changed(tmp_path):
    url = make_tar(tmp_path / "a.tar.gz", MEMBERS)
    first = spool_stream([url], f"{tmp_path}/d", 10_000)
    before = stamps_of(tmp_path / "d")
    assert spool_stream([url], f"{tmp_path}/d", 10_000) == first
    assert stamps_of(tmp_path / "d") == before
    os.utime(url, (1, 1))
    assert spool_stream([url], f"{tmp_path}/d", 10_000).name != first.name


def test_a_segment_that_was_cut_is_laid_out_again(tmp_path):
    url = make_tar(tmp_path / "a.tar.gz", MEMBERS)
    spool_stream([url], f"{tmp_path}/d", 10_000)
    calm = files_of(tmp_path / "d")
    (segment,) = (tmp_path / "d").glob("*.bin")
    segment.write_bytes(b"cut")
    spool_stream([url], f"{tmp_path}/d", 10_000)
    assert files_of(tmp_path / "d") == calm


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus with some of each kind of refusal; for reading alone."""
    corpus = make_corpus(tmp_path_factory.mktemp("c"), num_train=40, num_test=8)
    corpus.add_image("N90000", b"no image")
    corpus.add_row("N90001")
    corpus.add_image("a b (1)", jpeg_bytes(3), suffix=".jfif")
    corpus.add_image("N90002", png_bytes(3), folder="7")
    return corpus


@pytest.mark.parametrize("compress", [True, False])
def test_archives_give_the_tars_of_the_unpacked_corpus(corpus, tmp_path, compress):
    pack_release(corpus, tmp_path / "packed", compress=compress)
    for name in ("packed", "plain"):
        root = tmp_path / "packed" if name == "packed" else corpus.root
        convert_plainly(root, tmp_path / name / "ds", seed=4)
    packed, plain = payload_of(tmp_path / "packed/ds"), payload_of(tmp_path / "plain/ds")
    assert set(packed) == set(plain)
    assert {name for name in plain if packed[name] != plain[name]} == {
        name for name in plain if name.startswith(("samples/", "quarantine/"))
    }
    drop = ("source_uri",)
    for ours, theirs in zip(rows_of(tmp_path / "packed/ds"), rows_of(tmp_path / "plain/ds"), strict=True):
        assert {name: ours[name] for name in ours if name not in drop} == {
            name: theirs[name] for name in theirs if name not in drop
        }
    row = next(row for row in rows_of(tmp_path / "packed/ds") if row["key"] == "N90002")
    assert row["source_uri"].startswith("tar://JPEGImage/7/N90002.jpg::file:///")
    assert reasons_of(tmp_path / "packed/ds") == reasons_of(tmp_path / "plain/ds")


def test_a_second_run_from_archives_touches_nothing(corpus, tmp_path):
    root = pack_release(corpus, tmp_path / "packed")
    convert_plainly(root, tmp_path / "ds")
    before = stamps_of(tmp_path / "ds")
    convert_plainly(root, tmp_path / "ds", seed=2)
    assert stamps_of(tmp_path / "ds") == before


def test_a_run_that_stops_is_resumed_from_what_was_laid_out(corpus, tmp_path, monkeypatch):
    root = pack_release(corpus, tmp_path / "packed")
    convert_plainly(root, tmp_path / "calm")
    real, opened = storage.atomic_writer, []

    def stop(url):
        opened.append(str(url))
        if len(opened) == 6:
            raise KeyboardInterrupt
        return real(url)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "atomic_writer", stop)
        convert_plainly(root, tmp_path / "ds")
    (segment,) = (tmp_path / "ds/_drafts").glob("*.bin")
    stamp = segment.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(stream_spool, "_write_segments", None)
        convert_plainly(root, tmp_path / "ds")
    assert stamp and not segment.exists()
    assert files_of(tmp_path / "ds") == files_of(tmp_path / "calm")


def test_a_download_that_stopped_half_way_gives_what_is_there_and_says_what_is_missing(corpus, tmp_path):
    root = pack_release(corpus, tmp_path / "packed")
    (root / "JPEGImage.tar.gz02").unlink()
    convert_plainly(root, tmp_path / "ds")
    images, reasons = images_of(tmp_path / "ds"), list(reasons_of(tmp_path / "ds").values())
    assert len(images) > 20 and reasons.count("missing_image") > 5
    assert reasons.count("damaged_archive") == 1
    (row,) = [row for row in rows_of(tmp_path / "ds", "quarantine") if row["reason"] == "damaged_archive"]
    assert "archive must be a whole tar, got" in row["detail"] and "JPEGImage.tar.gz01" in row["detail"]
    for key, data in images.items():
        if "%" not in key and key != "N90002":
            assert data == (corpus.images / f"{key}.jpg").read_bytes()
