"""Boxes are repaired where it is clear what is meant, and every repair is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.corpus.boxes import collect_boxes, fit_boxes
from shards.format.classes import Box
from tests.corpora import CorpusWriter
from tests.shards.plain_calls import convert_plainly

CLASS_OF = {"gun": "Gun", "knife": "Knife"}
SIDE = st.integers(1, 4000)
CORNER = st.floats(-5000, 9000) | st.sampled_from([0.0, 1.0, -0.4, 40.0])


def test_reversed_corners_are_turned_and_empty_boxes_dropped():
    found = collect_boxes([("gun", (9, 1, 2, 8)), ("Gun ", (1, 1, 1, 5)), ("KNIFE", (0, 0, 1, 1))], CLASS_OF)
    assert found.boxes == (Box("Gun", 2, 1, 9, 8), Box("Knife", 0, 0, 1, 1))
    assert [kind for kind, _ in found.repairs] == ["reversed_box", "empty_box"]
    assert found.is_partial


@pytest.mark.parametrize(
    ("box", "width", "misfits"),
    [
        ((-2, 0, 9, 9), 100, False),
        ((-2.1, 0, 9, 9), 100, True),
        ((0, 0, 102, 9), 100, False),
        ((0, 0, 102.1, 9), 100, True),
        ((-10, 0, 1010, 9), 1000, False),  # 1 % of the side
        ((0, 0, 1011, 9), 1000, True),
        ((0, -3, 9, 9), 1000, True),  # the height has its own edge
    ],
)
def test_a_box_far_outside_belongs_to_another_picture(box, width, misfits):
    fitted, misfit = fit_boxes(collect_boxes([("gun", box)], CLASS_OF), width, 50)
    assert bool(misfit) == misfits
    assert [kind for kind, _ in fitted.repairs] == ["clipped_box"]


@given(
    st.lists(st.tuples(st.sampled_from(["gun", "bomb"]), st.tuples(CORNER, CORNER, CORNER, CORNER)), max_size=4), SIDE
)
def test_every_object_ends_as_a_box_within_the_image_or_as_a_counted_repair(objects, side):
    fitted, _ = fit_boxes(collect_boxes(objects, CLASS_OF), side, side)
    dropped = [kind for kind, _ in fitted.repairs if kind in ("unknown_class", "empty_box")]
    assert len(fitted.boxes) + len(dropped) == len(objects)
    for box in fitted.boxes:
        assert 0 <= box.xmin_px < box.xmax_px <= side and 0 <= box.ymin_px < box.ymax_px <= side
    assert fit_boxes(fitted, side, side) == (fitted, "")


def test_repairs_are_counted_in_the_manifest_whether_a_shard_is_written_or_reused(tmp_path):
    corpus = CorpusWriter(tmp_path / "corpus")
    for stem, boxes in {
        "P1": [("Gun", -1, 0, 9, 9), ("Bomb", 1, 1, 2, 2)],
        "P2": [("Gun", 9, 0, 1, 9)],
        "P3": [("Gun", 1, 0, 400, 9)],
    }.items():
        corpus.add_image(stem)
        corpus.add_annotation(stem, boxes)
    first = convert_plainly(corpus.root, tmp_path / "ds")
    again = convert_plainly(corpus.root, tmp_path / "ds", seed=3)
    assert {kind: found["count"] for kind, found in first.repairs.items()} == {
        "clipped_box": 1,
        "reversed_box": 1,
        "unknown_class": 1,
    }
    assert first.repairs["reversed_box"]["examples"][0]["key"] == "P2"
    assert first.contradictions["size_mismatch"]["count"] == 1
    assert first.ledger["unlisted"].quarantined_by_reason == {"size_mismatch": 1}
    assert again == first
