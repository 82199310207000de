"""Test that an object is cut out as what it alone takes away, and only where it can be told from its surroundings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.images.cutouts import MIN_ATTENUATION, Cutout, cut_object, find_dense_objects, find_white, split_in_two
from tests.painted import BAG, METAL, SHEET, paint, rectangle, tool

BAG_MASK = rectangle(20, 20, 220, 180)
BOX = (80.0, 70.0, 140.0, 100.0)
ITEM = tool(80, 70)


def cut(scan: np.ndarray) -> Cutout:
    found = cut_object(scan, BOX)
    assert found is not None
    return found


@pytest.mark.parametrize("white", [255, 195, 226])
def test_an_item_is_cut_out_without_the_bag_and_the_sheet_that_it_lies_on(white):
    scan = paint((BAG_MASK, BAG), (rectangle(60, 30, 180, 150), SHEET), (ITEM, METAL), white=white)
    cutout = cut(scan)
    assert cutout.white == (white,) * 3
    assert max(abs(a - b) for a, b in zip(cutout.extent, BOX, strict=True)) <= 2
    left, top, right, bottom = cutout.extent
    inside = ITEM[top:bottom, left:right]
    own = np.exp(-cutout.attenuation_HWC[inside & np.roll(inside, 3, 1) & np.roll(inside, -3, 1)])
    assert np.abs(np.median(own, axis=0) - METAL).max() < 0.05
    # Nothing of the bag or the sheet comes along: the corner of the box is empty.
    assert not cutout.attenuation_HWC[-5:, -10:].any()


def test_every_edge_of_a_cutout_touches_the_item_and_traces_are_none():
    cutout = cut(paint((BAG_MASK, BAG), (ITEM, METAL), seed=3))
    mask = cutout.attenuation_HWC.max(axis=2) > 0
    assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
    assert cutout.attenuation_HWC[mask].max(axis=1).min() >= MIN_ATTENUATION
    assert (cutout.attenuation_HWC.shape[1], cutout.attenuation_HWC.shape[0]) == (
        cutout.extent.width,
        cutout.extent.height,
    )


@pytest.mark.parametrize(
    ("what", "layers"),
    [
        ("nothing dense", [(BAG_MASK, BAG)]),
        ("a rod that goes on outside", [(BAG_MASK, BAG), (rectangle(20, 75, 220, 97), METAL)]),
        ("a panel that fills the box", [(BAG_MASK, BAG), (rectangle(81, 71, 139, 99), METAL)]),
        ("a speck", [(BAG_MASK, BAG), (rectangle(100, 80, 106, 86), METAL)]),
        ("an item on metal", [(BAG_MASK, BAG), (rectangle(30, 30, 210, 170), METAL), (ITEM, METAL**0.2)]),
    ],
)
def test_what_cannot_be_told_from_its_surroundings_is_not_cut_out(what, layers):
    assert cut_object(paint(*layers), BOX) is None, what


@pytest.mark.parametrize("box", [(10.0, 10.0, 18.0, 60.0), (300.0, 300.0, 400.0, 400.0), (-50.0, -50.0, -5.0, -5.0)])
def test_a_box_too_small_or_outside_of_the_scan_gives_nothing(box):
    assert cut_object(paint((BAG_MASK, BAG)), box) is None


def test_dense_objects_are_found_with_their_extents_and_by_their_size():
    scan = paint((BAG_MASK, BAG), (tool(30, 40), METAL), (tool(130, 120), METAL), (rectangle(180, 30, 190, 40), METAL))
    found = find_dense_objects(scan, (255, 255, 255), 40, 100)
    assert len(found) == 2
    for extent, (x, y) in zip(found, [(30, 40), (130, 120)], strict=True):
        assert np.abs(np.array(extent) - [x, y, x + 60, y + 30]).max() <= 2
        assert cut_object(scan, extent) is not None


def test_the_white_of_a_scan_is_that_of_its_empty_space_and_of_a_scan_without_any_255():
    assert find_white(paint((BAG_MASK, BAG), white=195)) == (195, 195, 195)
    tinted = np.full((40, 40, 3), (227, 194, 223), np.uint8)
    assert find_white(tinted) == (227, 194, 223)
    assert find_white(np.zeros((10, 10, 3), np.uint8)) == (255, 255, 255)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.0, 1.5), st.floats(2.5, 5.0))
def test_a_threshold_lies_between_two_heaps_of_values(num_low, num_high, low, high):
    values = np.array([low] * num_low + [high] * num_high, np.float32)
    assert low <= split_in_two(values) <= high
