"""The layout and annotations of OPIXray."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.corpus.annotations import MAX_ANNOTATION_BYTES
from shards.corpus.boxes import AnnotationError
from shards.corpus.layouts.opixray import parse_opixray
from shards.format.classes import Box, load_class_set
from tests.corpora import jpeg_bytes, reasons_of, rows_of
from tests.shards.plain_calls import convert_plainly

CLASSES = load_class_set("opixray")


def test_a_line_is_an_object_and_the_name_may_hold_spaces():
    text = b"\xef\xbb\xbf040000.jpg Folding_Knife 1 2 30 20\r\nmy scan (1).jpg multi-tool_knife 0 0.5 9 9.25\n\n"
    assert parse_opixray(text, CLASSES.spellings).boxes == (
        Box("Folding_Knife", 1, 2, 30, 20),
        Box("Multi-tool_Knife", 0, 0.5, 9, 9.25),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "unreadable_annotation"),
        (b"\xef\xbb\xbf \r\n", "unreadable_annotation"),
        (b"a.jpg Scissor 1 2 3", "unreadable_annotation"),
        (b"\xff\xfe\x00", "unreadable_annotation"),
        (b"x" * (MAX_ANNOTATION_BYTES + 1), "unreadable_annotation"),
        (b"a.jpg Scissor 1 2 three 4", "bad_box"),
        (b"a.jpg Scissor nan 2 3 4", "bad_box"),
        (b"a.jpg Scissor 1 2 inf 4", "bad_box"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_its_word(text, reason):
    with pytest.raises(AnnotationError) as error_info:
        parse_opixray(text, CLASSES.spellings)
    assert error_info.value.reason == reason


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(text):
    try:
        parse_opixray(text, CLASSES.spellings)
    except AnnotationError as error:
        assert error.reason in {"unreadable_annotation", "bad_box"}


def test_its_layout_becomes_a_dataset_with_all_labels_known(tmp_path):
    for number, split in enumerate(["train", "train", "test"]):
        folder = tmp_path / "c" / split
        (folder / f"{split}_image").mkdir(parents=True, exist_ok=True)
        (folder / f"{split}_annotation").mkdir(exist_ok=True)
        (folder / f"{split}_image" / f"0{number}.jpg").write_bytes(jpeg_bytes(number))
        line = f"0{number}.jpg Utility_Knife 1 2 {30 + number} 20\n"
        (folder / f"{split}_annotation" / f"0{number}.txt").write_text(line)
    (tmp_path / "c/test/test_image/09.jpg").write_bytes(jpeg_bytes(9))
    manifest = convert_plainly(tmp_path / "c", tmp_path / "ds", classes=CLASSES)
    assert manifest.classes == CLASSES.all
    assert reasons_of(tmp_path / "ds") == {}
    rows = {row["key"]: row for row in rows_of(tmp_path / "ds")}
    assert {key: row["split"] for key, row in rows.items()} == {
        "00": "train",
        "01": "train",
        "02": "test",
        "09": "test",
    }
    assert rows["00"]["labels"] == {name: int(name == "Utility_Knife") for name in CLASSES.all}
    assert rows["09"]["labels"] == dict.fromkeys(CLASSES.all)
    assert [box["xmax_px"] for box in rows["02"]["boxes"]] == [32]
    assert json.loads((tmp_path / "ds/dataset.json").read_text())["classes"] == list(CLASSES.all)
