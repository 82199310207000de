"""Pointing hits follow the paper's definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics.pointing import covered_shares, largest_box_centres, points_hit


def hits(points, boxes, tolerance_px=0.0):
    """`boxes`: (scan, xmin, ymin, xmax, ymax) each."""
    table = np.array(boxes, np.float32).reshape(-1, 5)
    return points_hit(np.array(points, np.float32), table[:, 0].astype(int), table[:, 1:], tolerance_px).tolist()


def test_a_point_in_any_of_the_boxes_of_its_scan_is_a_hit():
    boxes = [(0, 0, 0, 10, 10), (0, 50, 50, 60, 60), (1, 0, 0, 10, 10)]
    assert hits([(55, 55), (55, 55)], boxes) == [True, False]


def test_a_point_between_two_boxes_is_a_miss():
    assert hits([(5, 55)], [(0, 0, 0, 10, 10), (0, 50, 50, 60, 60)]) == [False]


@pytest.mark.parametrize("point", [(10, 20), (30, 20), (10, 40), (30, 40), (10, 25.5)])
def test_a_point_on_an_edge_is_a_hit(point):
    assert hits([point], [(0, 10, 20, 30, 40)]) == [True]


def test_a_scan_without_boxes_is_a_miss():
    assert hits([(1, 1)], []) == [False]


def test_tolerance_is_the_distance_to_the_box_round_its_corners():
    box = (0, 0, 0, 10, 10)
    assert hits([(25, 5)], [box], tolerance_px=15) == [True]
    assert hits([(25.1, 5)], [box], tolerance_px=15) == [False]
    assert hits([(22, 22)], [box], tolerance_px=15) == [False]  # 12 px off in x and in y: 17 px away


COORDINATE = st.integers(0, 20)


@given(COORDINATE, COORDINATE, st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE), max_size=5))
def test_hits_are_those_found_box_by_box(x, y, corners):
    boxes = [(0, min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    expected = any(left <= x <= right and top <= y <= bottom for _, left, top, right, bottom in boxes)
    assert hits([(x, y)], boxes) == [expected]


@given(st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE), max_size=4))
def test_covered_shares_are_those_of_pixels_counted_one_by_one(corners):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    width, height = 15, 12
    covered = sum(
        any(left <= x < right and top <= y < bottom for left, top, right, bottom in boxes)
        for x in range(width)
        for y in range(height)
    )
    edges = np.array(boxes, np.float32).reshape(-1, 4)
    shares = covered_shares(np.zeros(len(boxes), int), edges, np.array([[width, height]]))
    assert shares.tolist() == pytest.approx([covered / (width * height)])


def test_the_largest_box_gives_its_centre_and_a_scan_without_boxes_none():
    edges = np.array([[0, 0, 10, 10], [50, 50, 90, 90], [0, 0, 2, 2]], np.float32)
    centres = largest_box_centres(np.array([0, 0, 2]), edges, 3)
    assert centres[0].tolist() == [70, 70]
    assert np.isnan(centres[1]).all()
    assert centres[2].tolist() == [1, 1]
