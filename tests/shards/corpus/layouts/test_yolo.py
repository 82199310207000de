"""YOLO's text files, and what names its classes and splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.corpus.boxes import AnnotationError, fit_boxes
from shards.corpus.layouts.registry import choose_classes, find_corpus
from shards.corpus.layouts.yolo import parse_yolo
from tests.corpora import jpeg_bytes, reasons_of, rows_of
from tests.shards.corpus.layouts.twins import put
from tests.shards.plain_calls import convert_plainly

CLASS_OF = {"class_0": "Gun", "class_1": "Knife"}
ROW = "1 0.5 0.5 0.2 0.2\n"


def write(root, numbers, image="images/{}.jpg", text="labels/{}.txt"):
    for number in numbers:
        put(root / image.format(number), jpeg_bytes(number))
        put(root / text.format(number), ROW)


def splits_of(tmp_path):
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    return {row["key"]: row["split"] for row in rows_of(tmp_path / "ds")}


@given(st.lists(st.tuples(*[st.integers(0, 1000)] * 4), min_size=1, max_size=4))
def test_boxes_are_scaled_to_the_image_exactly(corners):
    boxes = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    lines = [
        f"0 {(xmin + xmax) / 2002!r} {(ymin + ymax) / 2002!r} {(xmax - xmin) / 1001!r} {(ymax - ymin) / 1001!r}"
        for xmin, ymin, xmax, ymax in boxes
    ]
    found, misfit = fit_boxes(parse_yolo("\r\n".join(lines).encode(), CLASS_OF), 1001, 1001)
    assert misfit == ""
    for box, expected in zip(found.boxes, boxes, strict=True):
        assert (box.xmin_px, box.ymin_px, box.xmax_px, box.ymax_px) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (b"0 0.5 0.5 0.2", "a line must be 'number x y width height'"),
        (b"0 0.5 0.5 0.2 0.2 0.9", "a line must be"),
        (b"Gun 0.5 0.5 0.2 0.2", "a line must be"),
        (b"0.5 0.5 0.5 0.2 0.2", "a line must be"),
        (b"0 0.5 nan 0.2 0.2", "a line must be"),
        (b"0 100 50 20 20", "coordinates must be fractions of the image's size"),
        (b"\0" * 20, "a line must be"),
        (b"x" * 1_000_001, "the file has more than"),
    ],
)
def test_what_is_no_row_proves_nothing(text, detail):
    with pytest.raises(AnnotationError) as error_info:
        parse_yolo(text, CLASS_OF)
    assert error_info.value.reason == "unreadable_annotation"
    assert error_info.value.detail.startswith(detail)


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(text):
    try:
        parse_yolo(text, CLASS_OF)
    except AnnotationError as error:
        assert error.reason == "unreadable_annotation"


def test_an_empty_file_is_a_scan_without_items_and_no_file_leaves_labels_unknown(tmp_path):
    write(tmp_path / "c", range(4))
    put(tmp_path / "c/labels/1.txt", "")
    (tmp_path / "c/labels/2.txt").unlink()
    put(tmp_path / "c/labels/3.txt", f"9 0.5 0.5 0.2 0.2\n{ROW}")
    put(tmp_path / "c/labels/classes.txt", "Gun\nKnife\n")
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    assert {row["key"]: row["labels"] for row in rows_of(tmp_path / "ds")} == {
        "0": {"Gun": 0, "Knife": 1},
        "1": {"Gun": 0, "Knife": 0},
        "2": {"Gun": None, "Knife": None},
        "3": {"Gun": None, "Knife": 1},  # a number that no file names
    }


def test_lists_of_paths_on_another_machine_say_the_split(tmp_path):
    write(tmp_path / "c", range(4))
    put(tmp_path / "c/train.txt", "/home/bob/ds/images/0.jpg\n./images/1.jpg\n")
    put(tmp_path / "c/val.txt", "images\\2.jpg\nimages/9.jpg\n")
    put(tmp_path / "c/ds.yaml", "path: /home/bob/ds\ntrain: train.txt\nval: val.txt\nnc: 2\nnames: ['Gun', 'Knife']\n")
    assert splits_of(tmp_path) == {"0": "train", "1": "train", "2": "val", "3": "unlisted"}
    assert reasons_of(tmp_path / "ds") == {"9": "missing_image"}


@pytest.mark.parametrize("path", ["", "path: .\n", "path: ../datasets/ds\n", "path: /data/c\n"])
def test_folders_whose_names_say_no_split_have_that_of_the_yaml(tmp_path, path):
    write(tmp_path / "c", range(2), "images/one/{}.jpg", "labels/one/{}.txt")
    write(tmp_path / "c", range(2, 4), "images/two/{}.jpg", "labels/two/{}.txt")
    put(tmp_path / "c/data.yaml", f"{path}train: [images/one]\nval: images/two\nnames: {{0: Gun, 1: Knife}}\n")
    assert splits_of(tmp_path) == {"one%2F0": "train", "one%2F1": "train", "two%2F2": "val", "two%2F3": "val"}


def test_a_val_split_that_is_the_train_split_again_is_left_out(tmp_path):
    write(tmp_path / "c", range(2), "images/train/{}.jpg", "labels/train/{}.txt")
    put(tmp_path / "c/coco8.yaml", "train: images/train\nval: images/train\nnames: {0: Gun, 1: Knife}\n")
    assert splits_of(tmp_path) == {"train%2F0": "train", "train%2F1": "train"}


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("{}.jpg", "{}.txt"),
        ("images/train/{}.jpg", "annotations/train/{}.txt"),
        ("train/images/{}.jpg", "train/labels/{}.txt"),
        ("train_images/{}.jpg", "train_labels/{}.txt"),
        ("JPEGImages/{}.jpg", "labels/{}.txt"),
    ],
)
def test_text_files_are_found_beside_images_and_in_folders_beside_theirs(tmp_path, image, text):
    write(tmp_path / "c", range(3), image, text)
    corpus = find_corpus(str(tmp_path / "c"), "auto", "all")
    assert corpus.layout == "yolo"
    assert "no file names the classes, --classes A,B,C does; classes read from the annotations: class_1" in corpus.why
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {}
    assert [row["labels"] for row in rows_of(tmp_path / "ds")] == [{"class_1": 1}] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"names: [Gun, Knife", "data.yaml is no YAML: while parsing a flow sequence"),
        (b"names: Gun, Knife", "names in data.yaml must be a list, got 'Gun, Knife'"),
        (b"nc: 2", "no file names the classes, --classes A,B,C does; classes read"),
    ],
)
def test_a_file_that_should_name_the_classes_and_does_not_is_named(tmp_path, text, words):
    write(tmp_path, range(2))
    put(tmp_path / "data.yaml", text)
    assert words in find_corpus(str(tmp_path), "auto", "all").why


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize(("name", "text"), [("data.yaml", "names: [枪支, 刀具]"), ("classes.txt", "枪支\n刀具\n")])
def test_names_of_classes_are_read_in_the_encodings_of_editors(tmp_path, name, text, encoding):
    write(tmp_path, range(2))
    put(tmp_path / name, text.encode(encoding))
    assert find_corpus(str(tmp_path), "auto", "all").class_names == ("枪支", "刀具")


def test_classes_that_the_user_names_are_in_the_order_of_the_numbers(tmp_path):
    write(tmp_path / "c", range(2))
    corpus = find_corpus(str(tmp_path / "c"), "auto", "all", class_names=("Gun", "Knife"))
    convert_plainly(tmp_path / "c", tmp_path / "ds", classes=choose_classes(corpus, ("Gun", "Knife"), {}))
    assert rows_of(tmp_path / "ds")[0]["labels"] == {"Gun": 0, "Knife": 1}
