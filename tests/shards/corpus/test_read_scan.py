"""A record becomes a sample or a quarantine row with its reason."""

import hashlib
import re

import pytest

from shards.corpus import read_scan as scans
from shards.corpus.annotations import parse_annotation
from shards.corpus.boxes import Annotation, AnnotationError
from shards.corpus.facts import MAX_IMAGE_BYTES
from shards.corpus.policy import Policy, merge_labels
from shards.corpus.read_annotations import read_annotations
from shards.corpus.read_scan import Scan, read_scan
from shards.corpus.records import ScanRef
from shards.format.classes import Box, load_class_set
from tests.corpora import jpeg_bytes, voc_xml

CLASSES = load_class_set("sixray")
UNKNOWN = dict.fromkeys(CLASSES.all)


@pytest.fixture
def ref(tmp_path):
    """A record, annotation read, changed by keyword; `image` and `xml` are the files' bytes, None for no file."""

    def make(image: bytes | None = None, xml: bytes | None = None, **changes) -> ScanRef:
        image_path, xml_path = tmp_path / "P1.jpg", tmp_path / "P1.xml"
        if image is not None:
            image_path.write_bytes(image)
        if xml is not None:
            xml_path.write_bytes(xml)
        annotation_url = str(xml_path) if xml is not None else None
        record = ScanRef("P1", "train", str(image_path), len(image or b""), None, annotation_url)
        (read,) = read_annotations([record._replace(**changes)], parse_annotation, CLASSES.spellings)
        return read

    return make


def refused(record: ScanRef) -> tuple[str, str, str]:
    row = read_scan(record, CLASSES)
    assert isinstance(row, dict)
    return row["stage"], row["reason"], row["detail"]


def test_a_sound_record_becomes_a_sample(ref):
    image = jpeg_bytes(1)
    record = ref(image, voc_xml([("plier", 1, 2.5, 30, 20)]), labels=(0, 0, 0, 1, 0))
    scan = read_scan(record, CLASSES)
    assert isinstance(scan, Scan)
    assert scan.image == image
    assert scan.row == {
        "key": "P1",
        "split": "train",
        "sha256": hashlib.sha256(image).hexdigest(),
        "width_px": 40,
        "height_px": 30,
        "labels": {"Gun": 0, "Knife": 0, "Wrench": 0, "Pliers": 1, "Scissors": 0, "Hammer": 0},
        "boxes": [{"class": "Pliers", "xmin_px": 1, "ymin_px": 2.5, "xmax_px": 30, "ymax_px": 20}],
        "source_uri": f"file://{record.source_url}",
        "duplicate_of": None,
        "group": None,
    }


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty_file"),
        (b"<html>", "unknown_format"),
        (jpeg_bytes(1)[:200], "truncated_jpeg"),
        (b"\xff\xd8" + bytes(99), "bad_jpeg"),
    ],
)
def test_an_image_that_is_no_whole_jpeg_is_refused_with_its_checksum(ref, image, reason):
    row = read_scan(ref(image), CLASSES)
    assert isinstance(row, dict)
    assert (row["stage"], row["reason"], row["key"]) == ("read", reason, "P1")
    assert row["sha256"] == hashlib.sha256(image).hexdigest()


def test_an_image_that_vanished_or_cannot_be_read_is_refused_for_this_run(ref, tmp_path):
    assert refused(ref()) == ("read", "vanished_image", "the file was there when the corpus was listed, and is gone")
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    assert refused(ref(source_url=str(folder))) == ("read", "unreadable_file", "IsADirectoryError: Is a directory")
    assert {"vanished_image", "unreadable_file", "changed_image"} == scans.RETRYABLE_REASONS


@pytest.mark.parametrize(("num_more", "found"), [(-9, "[0-9]+"), (1, "more"), (100, "more")])
def test_an_image_that_is_of_another_size_than_when_it_was_listed_is_refused_for_this_run(ref, num_more, found):
    data = jpeg_bytes(1)
    record = ref(data)._replace(size_bytes=len(data) - num_more)
    stage, reason, detail = refused(record)
    assert (stage, reason) == ("read", "changed_image")
    assert re.fullmatch(rf"the file had {len(data) - num_more} bytes when it was listed, and has {found}", detail)


def test_a_file_too_large_to_be_an_image_is_not_even_opened(ref):
    stage, reason, detail = refused(ref(size_bytes=MAX_IMAGE_BYTES + 1))
    assert (stage, reason) == ("read", "oversized_file")
    assert detail == f"the file has {64 * 1024 * 1024 + 1} bytes, at most {64 * 1024 * 1024} are read"


def test_what_listing_refused_is_not_read(ref):
    record = ref(reason="duplicate_key", detail="another\x1b[2J has this key already")
    assert refused(record) == ("list", "duplicate_key", "another\\x1b[2J has this key already")


@pytest.mark.parametrize(
    ("xml", "reason", "detail"),
    [
        (b"<annotation>", "unreadable_xml", "ParseError: "),
        (b"x" * 2_000_000, "unreadable_xml", "the file has more than 1000000 bytes"),
        (voc_xml([("Gun", 1, 1, 42.5, 2)]), "size_mismatch", "Box(class_name='Gun'"),
        (voc_xml([("Gun", 1, -2.5, 2, 2)]), "size_mismatch", "Box(class_name='Gun'"),
        (voc_xml([("Knife", 1, 1, 2, 2)]), "label_contradiction", "the list says ['Gun'], the annotation says ['Kn"),
    ],
)
def test_an_annotation_that_cannot_be_trusted_refuses_its_scan(ref, xml, reason, detail):
    stage, found, text = refused(ref(jpeg_bytes(1), xml, labels=(1, 0, 0, 0, 0)))
    assert (stage, found) == ("read", reason)
    assert text.startswith(detail)


def test_an_annotation_that_cannot_be_read_refuses_its_scan_for_this_run(ref, tmp_path):
    record = ref(jpeg_bytes(1), annotation_url=str(tmp_path / "gone.xml"))
    stage, reason, detail = refused(record)
    assert (stage, reason) == ("read", "unreadable_file")
    assert detail == f"file://{tmp_path}/gone.xml: FileNotFoundError: No such file or directory"


def test_a_box_a_little_over_the_border_is_clipped_and_counted(ref):
    scan = read_scan(ref(jpeg_bytes(1), voc_xml([("Gun", -0.5, 0, 42, 31), ("Gun", 0, 0, 40, 30)])), CLASSES)
    assert isinstance(scan, Scan)
    assert scan.row["boxes"][0] == scan.row["boxes"][1]
    assert [remark[:2] for remark in scan.remarks] == [("repairs", "clipped_box")]


def test_an_unknown_class_refuses_its_scan_if_asked(ref):
    record = ref(jpeg_bytes(1), voc_xml([("Bomb", 1, 1, 2, 2), ("Gun", 1, 1, 2, 2)]))
    assert isinstance(read_scan(record, CLASSES), Scan)
    row = read_scan(record, CLASSES, Policy(on_unknown_class="quarantine"))
    assert isinstance(row, dict) and row["reason"] == "unknown_class"


@pytest.mark.parametrize(("policy", "num_boxes"), [("keep-list", 0), ("keep-boxes", 1)])
def test_boxes_drawn_on_a_picture_of_another_size_follow_the_policy(ref, policy, num_boxes):
    record = ref(jpeg_bytes(1), voc_xml([("Gun", 1, 1, 99, 9)]), labels=(1, 0, 0, 0, 0))
    scan = read_scan(record, CLASSES, Policy(on_contradiction=policy))
    assert isinstance(scan, Scan)
    assert len(scan.row["boxes"]) == num_boxes and scan.row["labels"]["Gun"] == 1
    assert ("contradictions", "size_mismatch") in [remark[:2] for remark in scan.remarks]


PARTIAL = Annotation((Box("Gun", 0, 0, 1, 1),), (("unknown_class", "an object is named 'Bomb'"),))


@pytest.mark.parametrize(
    ("listed", "annotation", "known"),
    [
        (None, PARTIAL, {"Gun": 1}),
        (None, Annotation((), (("empty_box", "Gun"),)), {}),
        ((1, 1, 0, 0, 0), PARTIAL, {"Gun": 1, "Knife": 1, "Wrench": 0, "Pliers": 0, "Scissors": 0}),
    ],
)
def test_what_is_dropped_from_an_annotation_proves_no_absence(listed, annotation, known):
    for contradiction in ("quarantine", "keep-list", "keep-boxes"):
        policy = Policy(boxes_are_exhaustive=True, on_contradiction=contradiction)
        assert merge_labels(listed, annotation, CLASSES, policy)[0] == UNKNOWN | known


def annotation_of(*names: str) -> Annotation:
    return Annotation(tuple(Box(name, 0, 0, 1, 1) for name in names))


@pytest.mark.parametrize(
    ("listed", "annotation", "known"),
    [
        (None, None, {}),
        (None, annotation_of(), {}),
        (None, annotation_of("Gun", "Hammer"), {"Gun": 1, "Hammer": 1}),
        ((1, 0, 0, 0, 0), None, {"Gun": 1, "Knife": 0, "Wrench": 0, "Pliers": 0, "Scissors": 0}),
        ((1, 0, 0, 0, 0), annotation_of(), {"Gun": 1, "Knife": 0, "Wrench": 0, "Pliers": 0, "Scissors": 0}),
        (
            (1, 0, 0, 0, 0),
            annotation_of("Gun", "Gun"),
            {"Gun": 1, "Knife": 0, "Wrench": 0, "Pliers": 0, "Scissors": 0, "Hammer": 0},
        ),
        (
            (0, 0, 0, 0, 0),
            annotation_of("Hammer"),
            None,
        ),
        (
            (1, 0, None, 0, 0),
            annotation_of("Gun", "Wrench", "Hammer"),
            {"Gun": 1, "Knife": 0, "Pliers": 0, "Scissors": 0, "Hammer": 1},
        ),
    ],
)
def test_list_and_annotation_make_one_set_of_labels(listed, annotation, known):
    if known is None:
        known = {**dict.fromkeys(CLASSES.scored, 0), "Hammer": 1}
    assert merge_labels(listed, annotation, CLASSES, Policy())[0] == UNKNOWN | known


@pytest.mark.parametrize("names", [("Knife",), ("Gun", "Knife"), ("Hammer",)])
def test_boxes_of_other_scored_classes_than_the_list_contradict_it(names):
    with pytest.raises(AnnotationError, match=r"label_contradiction: the list says \['Gun'\], the annotation says"):
        merge_labels((1, 0, 0, 0, 0), annotation_of(*names), CLASSES, Policy())
