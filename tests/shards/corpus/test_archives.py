"""Zips are read in place and refused if damaged."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from shards.corpus import archives
from shards.corpus.archives import ArchiveError, Place, list_zip, read_place

FILES = {"a.xml": b"<annotation/>" * 50, "deep/b c.xml": b"x", "empty": b""}


def make_zip(path, method=zipfile.ZIP_DEFLATED, **files: bytes):
    with zipfile.ZipFile(path, "w", method) as out:
        out.mkdir("folder")
        for name, data in (files or FILES).items():
            out.writestr(name, data)
    return str(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_file_of_a_zip_is_one_range_of_it(tmp_path, method):
    url = make_zip(tmp_path / "a.zip", method)
    found = list(list_zip(url))
    assert {item.name: read_place(item.place, 10_000) for item in found} == FILES
    assert found[0].uri == f"zip://a.xml::file://{url}"
    with archives.open_zip_member(url, "deep/b c.xml") as handle:
        assert handle.read() == b"x"


def test_a_bomb_is_unpacked_no_further_than_asked(tmp_path):
    url = make_zip(tmp_path / "a.zip", bomb=bytes(50_000_000))
    (item,) = list_zip(url)
    assert item.place.size_bytes < 100_000
    assert len(read_place(item.place, 1001)) == 1001


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing_are_refused(tmp_path, method):
    name = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA"}[method]
    with pytest.raises(ArchiveError, match=f"got 1 of 1 files packed by {name} .*unpack it .7z x. and name the folder"):
        list(list_zip(make_zip(tmp_path / "a.zip", method, a=b"x" * 99)))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as out:
        for number in range(3):
            out.writestr(f"{number}.jpg", b"x" * 99, method if number == 1 else zipfile.ZIP_STORED)
    items = list(list_zip(str(tmp_path / "b.zip")))
    with pytest.raises(ArchiveError, match=f"a member must be stored or deflated, got one packed by {name}"):
        read_place(items[1].place, 1000)
    assert read_place(items[2].place, 1000) == b"x" * 99


def test_a_member_with_another_byte_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    (item,) = list_zip(make_zip(path, zipfile.ZIP_STORED, a=b"x" * 99))
    data = bytearray(path.read_bytes())
    data[item.place.offset_bytes + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="a member must have the bytes of its checksum"):
        read_place(item.place, 1000)
    with pytest.raises(ArchiveError, match="a member must begin with its header, got none"):
        read_place(item.place._replace(offset_bytes=7), 1000)
    with pytest.raises(ArchiveError, match="a member must be whole"):
        read_place(item.place._replace(method=8), 1000)


def test_two_zips_that_were_joined_are_refused_and_a_program_before_one_is_not(tmp_path):
    first, second = (Path(make_zip(tmp_path / f"{name}.zip", **{name: b"x"})).read_bytes() for name in "ab")
    (tmp_path / "c.zip").write_bytes(first + second)
    with pytest.raises(ArchiveError, match="archive must be one zip, got another before it"):
        list(list_zip(str(tmp_path / "c.zip")))
    (tmp_path / "d.zip").write_bytes(b"#!/bin/sh\n" + second)
    (item,) = list_zip(str(tmp_path / "d.zip"))
    assert read_place(item.place, 100) == b"x"


def test_a_plain_range_is_read_as_it_is(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_place(Place(f"{tmp_path}/a", 2, 5), 100) == b"23456"
    assert read_place(Place(f"{tmp_path}/a", 2, 5), 3) == b"234"


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04" + bytes(99)])
def test_a_zip_that_stopped_half_way_is_refused(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"archive must be a whole zip, got .*a\.zip\); download it again"):
        list(list_zip(str(tmp_path / "a.zip")))


def write_raw_names(path, names: Sequence[bytes]) -> str:
    """Write a zip whose names are bytes of any encoding, without the mark of UTF-8."""
    with zipfile.ZipFile(path, "w") as out:
        for number, name in enumerate(names):
            out.writestr("x" * len(name), bytes([number]) * 9)
    data = path.read_bytes()
    for name in names:
        data = data.replace(b"x" * len(name), name, 1)
    for name in names:
        data = data.replace(b"x" * len(name), name, 1)
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [("图像\\扫描一.jpg", "gbk", "GBK"), ("图像/扫描一.jpg", "utf-8", "UTF-8"), ("Gepäck/é1.jpg", "cp437", "CP437")],
)
def test_names_without_the_mark_of_utf_8_are_decoded_and_backslashes_separate_folders(tmp_path, text, encoding, guess):
    url = write_raw_names(tmp_path / "a.zip", [text.encode(encoding)])
    (item,) = list_zip(url)
    assert (item.name, item.guess) == (text.replace("\\", "/"), guess)
    assert read_place(item.place, 99) == bytes(9)
    with archives.open_zip_member(url, item.name) as handle:
        assert handle.read() == bytes(9)


def test_an_encoding_that_is_named_is_not_guessed(tmp_path):
    url = write_raw_names(tmp_path / "a.zip", ["荷物.jpg".encode("cp932")])
    assert [(item.name, item.guess) for item in list_zip(url, "cp932")] == [("荷物.jpg", "")]
    with pytest.raises(ArchiveError, match=r"names must be ascii, got .*--zip-encoding"):
        list(list_zip(url, "ascii"))


def test_an_encrypted_zip_is_called_encrypted(tmp_path):
    data = bytearray(Path(make_zip(tmp_path / "a.zip", zipfile.ZIP_STORED, a=b"x" * 99)).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="got 1 of 1 files encrypted with a password"):
        list(list_zip(str(tmp_path / "a.zip")))
