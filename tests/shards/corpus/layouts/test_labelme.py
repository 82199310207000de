"""labelme's files: shapes become boxes, and what is not understood proves no absence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.corpus.boxes import AnnotationError, SeenClasses
from shards.corpus.layouts.labelme import parse_labelme
from tests.corpora import jpeg_bytes, reasons_of, rows_of
from tests.shards.corpus.layouts.twins import put
from tests.shards.plain_calls import convert_plainly

CLASS_OF = {"gun": "Gun"}


def shape(kind, *points):
    return {"label": "Gun", "points": points, "shape_type": kind}


def parse(*shapes, **more):
    return parse_labelme(json.dumps({"shapes": shapes, **more}).encode(), CLASS_OF)


@pytest.mark.parametrize(
    ("kind", "points", "corners"),
    [
        ("rectangle", ([9, 2], [1, 8]), (1, 2, 9, 8)),
        ("polygon", ([1, 2], [9, 3], [5, 8]), (1, 2, 9, 8)),
        (None, ([1, 2], [9, 3], [5, 8]), (1, 2, 9, 8)),
        ("circle", ([5, 5], [5, 8]), (2, 2, 8, 8)),
        ("mask", ([1, 2], [9, 8]), (1, 2, 9, 8)),
    ],
)
def test_shapes_become_boxes(kind, points, corners):
    (box,) = parse(shape(kind, *points)).boxes
    assert (box.xmin_px, box.ymin_px, box.xmax_px, box.ymax_px) == corners


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"shapes": [',
        b'{"shapes": [{"label": "Gun"}]}',
        json.dumps({"shapes": [shape("star", [1, 1], [5, 5])]}).encode(),
        json.dumps({"shapes": [shape("point", [1, 1])]}).encode(),
        json.dumps({"shapes": [shape("circle", [1, 1], [5, 5], [6, 6])]}).encode(),
        b'{"shapes": [{"label": "Gun", "points": [[NaN, 1], [2, 3]]}]}',
    ],
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(AnnotationError) as error_info:
        parse_labelme(text, CLASS_OF)
    assert error_info.value.reason == "unreadable_annotation"


@given(st.binary(max_size=100))
def test_garbage_never_raises_anything_else(text):
    with pytest.raises(AnnotationError, match="unreadable_annotation"):
        parse_labelme(text, CLASS_OF)


@pytest.mark.parametrize("label", [None, "", " "])
def test_a_shape_without_a_label_is_of_no_class_and_is_counted(label):
    shape = {"label": label, "points": [[1, 2], [10, 20]], "shape_type": "rectangle"}
    found = parse_labelme(json.dumps({"shapes": [shape]}).encode(), SeenClasses())
    assert found.boxes == () and found.is_partial


def test_a_chinese_name_in_gbk_is_read():
    text = json.dumps({"shapes": [shape("rectangle", [1, 2], [9, 8]) | {"label": "刀具"}]}, ensure_ascii=False)
    assert parse_labelme(text.encode("gbk"), {"刀具": "刀具"}).class_names == {"刀具"}


def test_an_image_is_found_by_its_path_where_the_file_has_another_name(tmp_path):
    put(tmp_path / "c/a/6.jpg", jpeg_bytes(6))
    document = {"shapes": [shape("rectangle", [1, 2], [9, 8])], "imagePath": "..\\photos\\6.jpg"}
    put(tmp_path / "c/a/renamed.json", document | {"imageWidth": 40, "imageHeight": 30})
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {}
    assert [(row["key"], row["labels"]) for row in rows_of(tmp_path / "ds")] == [("a%2F6", {"Gun": 1})]


def test_files_without_any_object_do_not_make_the_layout(tmp_path):
    put(tmp_path / "c/1.jpg", jpeg_bytes(1))
    put(tmp_path / "c/1.json", {"shapes": []})
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    assert json.loads((tmp_path / "ds/dataset.json").read_text())["skipped"]["side_file"]["count"] == 1
