"""Test class sets and their spellings."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.classes import Box, ClassSet, load_class_set, sample_json


def test_hammer_is_known_but_not_scored():
    classes = load_class_set("sixray")
    assert classes.scored == ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
    assert classes.all == (*classes.scored, "Hammer")


def test_every_class_is_found_by_its_own_name_in_lower_case():
    classes = ClassSet(("A", "b"), ("C",), {"A": ("Aa", "aleph")})
    assert classes.spellings == {"a": "A", "b": "b", "c": "C", "aa": "A", "aleph": "A"}


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match=r"class set must be one of \['dvxray', 'opixray', 'sixray'\], got 'coco'"):
        load_class_set("coco")


COORDINATES = st.floats(0, 5000, width=32)


def make_row(key, image, boxes):
    return {
        "key": key,
        "sha256": hashlib.sha256(image).hexdigest(),
        "width_px": 40,
        "height_px": 30,
        "labels": {"Gun": 1, "Hammer": None},
        "boxes": [Box(*box).to_row() for box in boxes],
    }


@settings(max_examples=100, deadline=None)
@given(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES))
def test_the_json_names_each_float32_by_its_shortest_decimal(corners):
    row = make_row("k", b"", [("Gun", *corners)])
    (box,) = json.loads(sample_json(row))["boxes"]
    found = [box[name] for name in ("xmin_px", "ymin_px", "xmax_px", "ymax_px")]
    assert [np.float32(value) for value in found] == [np.float32(value) for value in corners]
    # As a reader of the table sees it: float32 widened to float64 gives the same text.
    widened = row | {"boxes": [box | {name: float(np.float32(box[name])) for name in box if name != "class"}]}
    assert sample_json(widened) == sample_json(row)


def test_the_json_holds_key_size_labels_and_boxes():
    row = make_row("P00004", b"", [("Gun", 17.318, 0, 355.424, 302)])
    assert sample_json(row) == (
        b'{"key":"P00004","width_px":40,"height_px":30,"labels":{"Gun":1,"Hammer":null},'
        b'"boxes":[{"class":"Gun","xmin_px":17.318,"ymin_px":0.0,"xmax_px":355.424,"ymax_px":302.0}]}'
    )
