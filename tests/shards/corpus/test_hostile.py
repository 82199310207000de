"""Hostile input is refused by name, in bounded memory and time, and writes nothing outside the output."""

import io
import re
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from shards.corpus.policy import Policy
from shards.format.keys import encode_key
from tests.corpora import CorpusWriter, images_of, jpeg_bytes, make_corpus, members_of, reasons_of, rows_of, voc_xml
from tests.shards.plain_calls import convert_plainly

NAMES = {
    "../../outside.jpg": "outside",
    "/etc/absolute.jpg": "absolute",
    "a/../../b.jpg": "b",
    "JPEGImage/new\nline\x1b[2J.jpg": "new%0Aline%1B%5B2J",
    "JPEGImage/..jpg": "%2E",
    "JPEGImage/-rf.jpg": "-rf",
    "JPEGImage/\udce9.jpg": "%E9",
    "JPEGImage/ü ü.jpg": "%C3%BC%20%C3%BC",
}
LONG = "n" * 300


def everything_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_names_in_an_archive_lead_nowhere_and_become_safe_keys(tmp_path):
    root = tmp_path / "deep/er/c"
    root.mkdir(parents=True)
    with tarfile.open(root / "JPEGImage.tar.gz00", "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for number, name in enumerate([*NAMES, f"JPEGImage/{LONG}.jpg"]):
            data = jpeg_bytes(number)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in {"JPEGImage/link.jpg": tarfile.SYMTYPE, "JPEGImage/hard.jpg": tarfile.LNKTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with zipfile.ZipFile(root / "Annotation.zip", "w") as archive:
        archive.writestr("../../../outside.xml", voc_xml([("Gun", 1, 1, 9, 9)]))
    convert_plainly(root, tmp_path / "deep/ds")
    assert {row["key"] for row in rows_of(tmp_path / "deep/ds")} == {*NAMES.values(), encode_key(LONG)}
    assert reasons_of(tmp_path / "deep/ds") == {"link": "not_a_file", "hard": "not_a_file"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"er", "ds"}
    assert everything_below(root) == {"JPEGImage.tar.gz00", "Annotation.zip"}
    for member in members_of(tmp_path / "deep/ds"):
        assert re.fullmatch(r"[A-Za-z0-9_~()+,=@%-]+\.(jpg|json)", member)
    (row,) = [row for row in rows_of(tmp_path / "deep/ds") if row["key"] == "outside"]
    assert row["labels"]["Gun"] == 1
    assert all(text.isprintable() for row in rows_of(tmp_path / "deep/ds") for text in (row["source_uri"], row["key"]))


def huge_jpeg() -> bytes:
    data = jpeg_bytes(1)
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", 60_000, 60_000) + data[at + 9 :]


def huge_png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BOMB = b"<!DOCTYPE a [" + b"".join(
    b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10 if n else b"boom" * 100) for n in range(12)
)
HOSTILE_XML = {
    "P80000": BOMB + b"]><annotation><object><name>&e11;</name></object></annotation>",
    "P80001": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><x>&x;</x></annotation>',
    "P80002": b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]><annotation/>',
    "P80003": b"<a>" * 300_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("transcode", [False, True])
def test_bombs_of_every_kind_cost_their_own_row_in_bounded_memory_and_time(tmp_path, transcode):
    corpus = make_corpus(tmp_path / "c", num_train=6, num_test=0)
    for key, text in HOSTILE_XML.items():
        corpus.add_scan(key)
        corpus.add_annotation(key, text=text)
    for key, data in {"N80000": huge_jpeg(), "N80001": huge_png()}.items():
        corpus.add_image(key, data)
    with (corpus.images / "N80002.jpg").open("wb") as out:
        out.truncate(1 << 40)  # a file with a hole
    tracemalloc.start()
    started = time.perf_counter()
    convert_plainly(corpus.root, tmp_path / "ds", policy=Policy(transcode=transcode))
    seconds, (_, peak_bytes) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reasons_of(tmp_path / "ds") == {
        **dict.fromkeys(HOSTILE_XML, "unreadable_xml"),
        "N80000": "oversized_image",
        "N80001": "oversized_image",
        "N80002": "oversized_file",
    }
    assert len(images_of(tmp_path / "ds")) == 6
    assert peak_bytes < 160 * 1024 * 1024  # a megabyte of empty elements takes a hundred as a tree
    assert seconds < 30


def test_loops_of_links_end_wherever_they_are(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=6, num_test=0)
    for folder in ("JPEGImage", "Annotation", "ImageSet"):
        (corpus.root / folder / "loop").symlink_to(corpus.root, target_is_directory=True)
        (corpus.root / folder / "self.jpg").symlink_to("self.jpg")
    convert_plainly(corpus.root, tmp_path / "ds")
    reasons = reasons_of(tmp_path / "ds")
    assert set(reasons) == {"loop", "self"}
    assert len(images_of(tmp_path / "ds")) == 6


def test_gigabytes_in_a_row_of_a_list_are_one_refusal(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    corpus.add_scan("N00001")
    path = corpus.root / "ImageSet/10/train.csv"
    with path.open("r+b") as out:
        out.truncate(64 * 1024**2)
    convert_plainly(corpus.root, tmp_path / "ds")
    assert list(reasons_of(tmp_path / "ds").values()) == ["bad_list_row"]
    assert len(images_of(tmp_path / "ds")) == 1
