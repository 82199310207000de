"""Whatever is damaged: no reader raises anything but its own errors, and no conversion loses a record.

Files of each kind are mutated: bytes flipped, cut out, repeated, blanked, cut short, joined to another file's.
"""

import io
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.corpus.annotations import parse_annotation
from shards.corpus.archives import ArchiveError, list_zip, read_place
from shards.corpus.boxes import AnnotationError
from shards.corpus.facts import MAX_IMAGE_BYTES
from shards.corpus.label_lists import read_list
from shards.corpus.layouts.opixray import parse_opixray
from shards.corpus.policy import Policy
from shards.corpus.streams.spool import spool_stream
from shards.format.json_document import DamagedDocumentError
from shards.format.manifest import DatasetManifest
from shards.images.decode import check_decodable, decode_image, without_alpha
from shards.images.inspect import read_image_size
from shards.images.jpeg import ImageError
from shards.images.transcode import to_jpeg
from tests.corpora import (
    HEADER,
    SCORED,
    CorpusWriter,
    jpeg_bytes,
    list_row,
    make_corpus,
    members_of,
    png_bytes,
    rows_of,
    voc_xml,
)
from tests.shards.plain_calls import CLASSES, convert_plainly

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def pack_zip(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name in ("JPEGImage/P1.jpg", "JPEGImage\\P2.jpg", "扫描.jpg"):
            archive.writestr(name, jpeg_bytes(len(name)))
    return out.getvalue()


def pack_tar(mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for number in range(3):
            info = tarfile.TarInfo(f"P{number}.jpg")
            info.size = len(jpeg_bytes(number))
            tar.addfile(info, io.BytesIO(jpeg_bytes(number)))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "P1.jpg"
        tar.addfile(link)
    return out.getvalue()


LIST = "\n".join([HEADER, *(list_row(f"P{number}", ["Gun"]) for number in range(4))])
IMAGES = [
    jpeg_bytes(1),
    jpeg_bytes(2, progressive=True),
    jpeg_bytes(3, mode="L", restart_marker_rows=1),
    png_bytes(1),
    png_bytes(2, mode="RGBA"),
    png_bytes(3, mode="I;16"),
]
ANNOTATIONS = [
    voc_xml([("Gun", 1, 1, 9, 9), ("Knife", 2, 2, 30, 20)]),
    '<?xml version="1.0" encoding="gbk"?><annotation><object><name>Gun</name></object>箱</annotation>'.encode("gbk"),
    voc_xml([("Gun", 1, 1, 9, 9)]).decode().encode("utf-16"),
]
LISTS = [LIST.encode(), LIST.replace(",", ";").encode("utf-16"), LIST.replace("P", "扫描").encode("gbk")]
ZIPS = [pack_zip(zipfile.ZIP_STORED), pack_zip(zipfile.ZIP_DEFLATED)]
TARS = [pack_tar("w"), pack_tar("w:gz"), pack_tar("w:xz"), pack_tar("w") + pack_tar("w")]
INTERESTING = [
    b"\0",
    b"\xff",
    b"\xff\xd9",
    b"\xff\xda",
    b"IDAT",
    b"PK\x01\x02",
    b'"',
    b"\n",
    b"<",
    b"-1",
    struct.pack(">I", 2**31),
]


@st.composite
def mutated(draw: Callable[..., Any], bases: list[bytes]) -> bytes:
    """One of some files with up to four mutations."""
    data: bytes = draw(st.sampled_from(bases))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([1, 2, 4, 16, 200]))
        kind = draw(st.sampled_from(["flip", "drop", "repeat", "blank", "cut", "insert", "join"]))
        piece = data[at : at + length]
        data = {
            "flip": data[:at] + bytes(byte ^ draw(st.integers(1, 255)) for byte in piece[:4]) + data[at + 4 :],
            "drop": data[:at] + data[at + length :],
            "repeat": data[:at] + piece * 2 + data[at + length :],
            "blank": data[:at] + bytes(len(piece)) + data[at + length :],
            "cut": data[:at],
            "insert": data[:at] + draw(st.sampled_from(INTERESTING)) + data[at:],
            "join": data[:at] + draw(st.sampled_from(bases))[at:],
        }[kind]
    return data


@pytest.mark.parametrize("read", [read_image_size, check_decodable, to_jpeg])
@FUZZ
@given(data=mutated(IMAGES))
def test_a_damaged_image_is_read_or_refused_by_its_word(read, data):
    try:
        read(data)
    except ImageError as error:
        assert error.reason.replace("_", "").isalpha() and error.detail


@FUZZ
@given(data=mutated(IMAGES))
def test_a_damaged_image_is_decoded_or_not_and_ends_no_process(data):
    for decode in (decode_image, without_alpha, lambda data: decode_image(data, draft_px=16)):
        with suppress(ImageError, OSError, SyntaxError, ValueError):
            decode(data)


@pytest.mark.parametrize("parse", [parse_annotation, parse_opixray])
@FUZZ
@given(data=mutated([*ANNOTATIONS, b"a.jpg Gun 1 2 3 4\nb c.jpg Knife 1 2 3 4\n"]))
def test_a_damaged_annotation_is_parsed_or_refused_by_its_word(parse, data):
    try:
        annotation = parse(data, CLASSES.spellings)
    except AnnotationError as error:
        assert error.reason in {"unreadable_xml", "unreadable_annotation", "bad_box"}
    else:
        assert all(box.xmin_px < box.xmax_px and box.ymin_px < box.ymax_px for box in annotation.boxes)


@FUZZ
@given(data=mutated(LISTS), has_labels=st.booleans())
def test_every_line_of_a_damaged_list_is_a_row_or_the_list_is_refused(tmp_path, data, has_labels):
    (tmp_path / "train.csv").write_bytes(data)
    try:
        rows = list(read_list(str(tmp_path / "train.csv"), SCORED, has_labels=has_labels))
    except ValueError as error:
        assert str(error).startswith("list must")
    else:
        assert all(row.problem or len(row.labels) in (0, len(SCORED)) for row in rows)


@FUZZ
@given(data=mutated(ZIPS))
def test_a_damaged_zip_is_read_or_refused(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    try:
        for item in list_zip(str(tmp_path / "a.zip")):
            assert "\\" not in item.name
            with suppress(ArchiveError):
                read_place(item.place, 100_000)
    except ArchiveError as error:
        assert "a.zip" in str(error)


@settings(FUZZ, max_examples=40)
@given(data=mutated(TARS))
def test_a_damaged_tar_gives_what_is_before_the_damage_and_says_that_it_is_damaged(data):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.tar").write_bytes(data)
        spool = spool_stream([f"{folder}/a.tar"], f"{folder}/_drafts", MAX_IMAGE_BYTES)
        for image in spool.images():
            assert image.place is None or len(read_place(image.place, MAX_IMAGE_BYTES)) == image.size_bytes
        assert not spool.problem or "a.tar" in spool.problem


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    return convert_plainly(make_corpus(root / "c").root, root / "ds").to_json()


@FUZZ
@given(data=st.data())
def test_a_damaged_manifest_is_read_or_called_damaged(manifest, data):
    text = data.draw(mutated([manifest]))
    try:
        DatasetManifest.from_json(text, "url")
    except DamagedDocumentError:
        pass
    except ValueError as error:
        assert "must have format" in str(error)


FILES = st.fixed_dictionaries(
    {
        "images": st.lists(mutated(IMAGES), min_size=1, max_size=3),
        "annotations": st.lists(mutated(ANNOTATIONS), max_size=3),
        "list": st.none() | mutated(LISTS),
        "archive": st.none() | mutated(TARS),
    }
)


def write_files(root: Path, files: dict[str, Any]) -> None:
    corpus = CorpusWriter(root)
    corpus.add_scan("P9", ["Gun"])
    for number, data in enumerate(files["images"]):
        corpus.add_image(f"P{number}", data)
    for number, text in enumerate(files["annotations"]):
        corpus.add_annotation(f"P{number}", text=text)
    if files["list"] is not None:
        (root / "ImageSet/10/test.csv").write_bytes(files["list"])
    if files["archive"] is not None:
        for path in corpus.images.iterdir():
            path.unlink()
        corpus.images.rmdir()
        (root / "JPEGImage.tar").write_bytes(files["archive"])


@pytest.mark.slow  # a conversion takes a tenth of a second
@settings(FUZZ, max_examples=20)
@given(files=FILES, strict=st.booleans())
def test_a_conversion_of_damaged_files_accounts_for_each_of_them(files, strict):
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder) / "c", Path(folder) / "ds"
        write_files(root, files)
        try:
            manifest = convert_plainly(root, output, policy=Policy(strict_decode=strict))
        except ValueError as error:
            assert "list must" in str(error)  # ends with 2, nothing is written
            assert not (output / "dataset.json").exists()
            return
        rows, refused = rows_of(output), rows_of(output, "quarantine")
        assert sum(counts.listed for counts in manifest.ledger.values()) == len(rows) + len(refused)
        assert sum(counts.quarantined for counts in manifest.ledger.values()) == len(refused)
        members = {name.rpartition(".")[0] for name in members_of(output)}
        assert sorted(row["key"] for row in rows) == sorted(members)
        if files["archive"] is None:
            named = {row["source_uri"] for row in [*rows, *refused]}
            assert {path.as_uri() for path in root.rglob("*.jpg")} <= named
        for row in rows:
            for box in row["boxes"]:
                assert 0 <= box["xmin_px"] < box["xmax_px"] <= row["width_px"]
                assert 0 <= box["ymin_px"] < box["ymax_px"] <= row["height_px"]
