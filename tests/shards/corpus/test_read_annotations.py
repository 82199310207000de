"""Annotations are read once, in bounded memory, and carried by their records."""

import hashlib
import zipfile
from collections import Counter

import pytest

from shards import storage
from shards.corpus import archives
from shards.corpus.annotations import parse_annotation
from shards.corpus.boxes import Annotation
from shards.corpus.read_annotations import read_annotations
from shards.corpus.records import ReadAnnotation, ScanRef
from shards.format.classes import Box
from shards.shuffle import pack, unpack
from tests.corpora import make_corpus, reasons_of, voc_xml
from tests.shards.plain_calls import CLASSES, convert_plainly


def read(path, parse=parse_annotation) -> ReadAnnotation:
    ref = ScanRef("P1", "train", "/P1.jpg", 1, annotation_url=str(path))
    (record,) = unpack(pack(read_annotations([ref], parse, CLASSES.spellings)))
    assert isinstance(record.annotation, ReadAnnotation)
    return record.annotation


def test_a_record_carries_the_boxes_and_the_checksum_of_its_annotation(tmp_path):
    text = voc_xml([("plier", 1, 2.5, 30, 20)])
    (tmp_path / "P1.xml").write_bytes(text)
    assert read(tmp_path / "P1.xml") == ReadAnnotation(
        hashlib.sha256(text).hexdigest(), (Box("Pliers", 1, 2.5, 30, 20),)
    )


def test_an_annotation_that_cannot_be_trusted_says_why_and_one_that_cannot_be_read_has_no_checksum(tmp_path):
    (tmp_path / "P1.xml").write_bytes(b"x")
    found = read(tmp_path / "P1.xml")
    assert (found.digest, found.reason) == (hashlib.sha256(b"x").hexdigest(), "unreadable_xml")
    gone = read(tmp_path / "gone.xml")
    assert (gone.digest, gone.reason) == ("unreadable_file", "unreadable_file")


def test_a_huge_annotation_is_not_read_into_memory(tmp_path):
    with (tmp_path / "P1.xml").open("wb") as out:
        out.truncate(1 << 40)
    seen = []

    def parse(text: bytes, _class_of: dict[str, str]) -> Annotation:
        seen.append(len(text))
        return Annotation(())

    read(tmp_path / "P1.xml", parse)
    assert seen == [1_000_001]


def test_records_without_annotation_travel_as_before():
    refs = [ScanRef(f"N{number:07d}", "train", f"/c/N{number:07d}.jpg", 50_000 + number) for number in range(5000)]
    without_field = [tuple(ref)[:-1] for ref in refs]
    assert len(pack(refs)) < len(pack(without_field)) * 1.01


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_conversion_opens_each_annotation_once(tmp_path, monkeypatch, is_packed):
    corpus = make_corpus(tmp_path / "c", num_train=6, num_test=3)
    keys = [f"P8{number:04d}" for number in range(5)]
    for key in keys:
        corpus.add_scan(key, ["Gun"])
        corpus.add_annotation(key, [("Gun", 1, 1, 9, 9)])
    folder = corpus.root / "Annotation"
    expected = Counter({path.name: 1 for path in folder.iterdir()})
    if is_packed:
        with zipfile.ZipFile(corpus.root / "Annotation.zip", "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)
                path.unlink()
            names = {info.header_offset: info.filename for info in archive.infolist()}
        folder.rmdir()
    opened: Counter[str] = Counter()
    open_reader, read_place = storage.open_reader, archives.read_place

    def count_open(url: str):
        opened[storage.base_name(url)] += url.endswith(".xml")
        return open_reader(url)

    def count_place(place: archives.Place, limit_bytes: int) -> bytes:
        opened[names[place.offset_bytes]] += 1
        return read_place(place, limit_bytes)

    monkeypatch.setattr("shards.storage.open_reader", count_open)
    monkeypatch.setattr("shards.corpus.read_annotations.read_place", count_place)
    convert_plainly(corpus.root, tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {}
    assert +opened == expected
    assert {f"{key}.xml" for key in keys} <= set(expected)
