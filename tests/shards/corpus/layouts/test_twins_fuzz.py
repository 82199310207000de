"""Whatever is damaged in a corpus of any layout: no crash, no lost scan, no box outside its image."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.corpus.boxes import AnnotationError
from shards.corpus.layouts.coco import _Document, inline_annotation, parse_inline
from shards.corpus.layouts.dvxray import _read_view
from shards.corpus.layouts.labelme import parse_labelme
from shards.corpus.layouts.yolo import parse_yolo
from shards.corpus.policy import Policy
from shards.format.classes import ClassSet
from tests.corpora import members_of, rows_of
from tests.shards.corpus.layouts import twins
from tests.shards.corpus.test_fuzz import FUZZ, mutated
from tests.shards.plain_calls import convert_plainly

CLASS_OF = {"gun": "Gun", "class_0": "Gun", "knife": "Knife"}
SHAPES = [
    {"label": "Gun", "points": [[1, 2], [9, 9]], "shape_type": "rectangle"},
    {"label": "Gun", "points": [[5, 5], [9, 9]], "shape_type": "circle"},
    {"label": "Knife", "points": [[1, 2], [9, 9], [1, 9.5]]},
]
LABELME = json.dumps({"shapes": SHAPES, "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30}).encode()
YOLO = [b"0 0.5 0.5 0.2 0.2\n0 .1 .1 .2 .1 .2 .2\n", "0 0.5 0.5 1e-1 0.2\r\n".encode("utf-16")]
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
    "categories": [{"id": 1, "name": "Gun"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6.5]]},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": {"size": [3, 4], "counts": [2, 3, 7]}},
        {"id": 4, "image_id": 1, "category_id": 1, "segmentation": {"size": [3, 4], "counts": "23M7"}},
    ],
}
DVXRAY = json.dumps({"objects": [{"label": "Gun", "ol_bb": [1, 2, 30, 40], "sd_bb": None}, {"label": "K"}]}).encode()


@pytest.mark.parametrize(("parse", "bases"), [(parse_labelme, [LABELME]), (parse_yolo, YOLO)])
@FUZZ
@given(data=st.data())
def test_a_damaged_annotation_is_parsed_or_refused_by_its_word(parse, bases, data):
    try:
        annotation = parse(data.draw(mutated(bases)), CLASS_OF)
    except AnnotationError as error:
        assert error.reason == "unreadable_annotation"
    else:
        assert all(box.xmin_px < box.xmax_px and box.ymin_px < box.ymax_px for box in annotation.boxes)


@FUZZ
@given(data=mutated([json.dumps(COCO).encode()]))
def test_a_damaged_coco_file_is_read_or_refused_and_its_entries_too(data):
    try:
        document = _Document(data.decode("utf-8", "replace"), ClassSet(("Gun",)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    for entry in (entry for entries in document.entries.values() for entry in entries):
        assert entry.problem or len(entry.corners) == 4
        if not entry.problem:
            parse_inline(inline_annotation([("Gun", entry.corners)], (40, 30)).text.encode(), CLASS_OF)


@FUZZ
@given(data=mutated([DVXRAY]), view=st.sampled_from(["OL", "SD"]))
def test_a_damaged_file_of_a_pair_is_read_or_refused(data, view):
    try:
        parse_inline(_read_view(data, view).text.encode(), CLASS_OF)
    except AnnotationError as error:
        assert error.reason == "unreadable_annotation"


WRITERS = {
    "coco": twins.write_coco,
    "yolo": twins.write_yolo,
    "darknet": twins.write_darknet,
    "labelme": twins.write_labelme,
    "labelimg": twins.write_labelimg,
    "voc": twins.write_voc,
    "hixray": twins.write_hixray,
    "dvxray": twins.write_dvxray,
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", WRITERS)
@settings(FUZZ, max_examples=8)
@given(data=st.data(), strict=st.booleans())
def test_a_conversion_of_a_damaged_corpus_stops_or_accounts_for_every_image(layout, data, strict):
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder) / "c", Path(folder) / "ds"
        splits = {"val": "test"} if layout == "hixray" else {}
        scans = [replace(scan, split=splits.get(scan.split, scan.split)) for scan in twins.make_truth()]
        WRITERS[layout](root, [scan for scan in scans if scan.boxes or layout != "hixray"])
        files = sorted(path for path in root.rglob("*") if path.is_file())
        images = {path for path in files if path.suffix in (".jpg", ".png")}
        for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True)):
            path.write_bytes(data.draw(mutated([path.read_bytes()])))
        try:
            manifest = convert_plainly(root, output, policy=Policy(strict_decode=strict))
        except ValueError as error:
            assert " must " in str(error)  # ends with 2, nothing is written
            assert not (output / "dataset.json").exists()
            return
        rows, refused = rows_of(output), rows_of(output, "quarantine")
        assert sum(counts.listed for counts in manifest.ledger.values()) == len(rows) + len(refused)
        assert sorted(row["key"] for row in rows) == sorted({name.rpartition(".")[0] for name in members_of(output)})
        assert {path.as_uri() for path in images} <= {row["source_uri"] for row in [*rows, *refused]}
        for row in rows:
            for box in row["boxes"]:
                assert 0 <= box["xmin_px"] < box["xmax_px"] <= row["width_px"]
                assert 0 <= box["ymin_px"] < box["ymax_px"] <= row["height_px"]
