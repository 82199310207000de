"""Test the JSON component of a sample."""

import hashlib
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.sample_json import Box, sample_json

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
