"""Test that the average precision of detections is that of COCO's own evaluation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.metrics import detection
from model.metrics.detection import IOU_THRESHOLDS, average_precisions, find_true_detections, keep_highest
from tests.model.coco_precision import rate_by_coco


def rate(found_D6, true_B5):
    """Ours: (T,) of detections (scan, score, edges) and boxes (scan, edges)."""
    found_D6, true_B5 = np.reshape(found_D6, (-1, 6)).astype(float), np.reshape(true_B5, (-1, 5)).astype(float)
    found_D6 = found_D6[keep_highest(found_D6[:, 0].astype(np.int64), found_D6[:, 1])]
    scan_D, scan_B = found_D6[:, 0].astype(np.int64), true_B5[:, 0].astype(np.int64)
    is_true_TD = find_true_detections(scan_D, found_D6[:, 2:], scan_B, true_B5[:, 1:])
    return average_precisions(found_D6[:, 1], is_true_TD, len(true_B5))


@st.composite
def _scenes(draw):
    """Scans with boxes on a coarse grid and detections near them: overlaps and scores are often equal."""
    num_scans = draw(st.integers(1, 4))
    corner, extent = st.integers(0, 12).map(lambda n: n / 2), st.integers(1, 8).map(lambda n: n / 2)
    box = st.tuples(corner, corner, extent, extent).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
    true, found = [], []
    for scan in range(num_scans):
        own = draw(st.lists(box, max_size=4))
        true += [(scan, *edges) for edges in own]
        near = box | st.sampled_from(own) if own else box
        scores = st.integers(0, 4).map(lambda n: n / 4)
        found += [(scan, score, *edges) for score, edges in draw(st.lists(st.tuples(scores, near), max_size=6))]
    crowds = [scan for scan in range(num_scans) if all(of[0] != scan for of in true) and draw(st.booleans())]
    return num_scans, found, true, crowds


@settings(deadline=None)
@given(_scenes())
def test_average_precisions_are_those_of_pycocotools_with_crowds_as_scans_that_are_left_out(scene):
    num_scans, found, true, crowds = scene
    if not true or not found:
        return
    ours_T = rate([of for of in found if of[0] not in crowds], true)
    assert ours_T == pytest.approx(rate_by_coco(num_scans, found, true, crowds), abs=1e-6)


@pytest.mark.parametrize(
    ("found", "true"),
    [
        ([(0, 0.9, 0, 0, 10, 5)], [(0, 0, 0, 10, 10)]),  # an overlap of 0.5 to the bit
        # The first overlaps both boxes by 2/3, the second one of them: whichever lies first in the list.
        ([(0, 0.9, 2, 0, 12, 10), (0, 0.8, 0, 0, 10, 10)], [(0, 0, 0, 10, 10), (0, 4, 0, 14, 10)]),
        ([(0, 0.9, 2, 0, 12, 10), (0, 0.8, 0, 0, 10, 10)], [(0, 4, 0, 14, 10), (0, 0, 0, 10, 10)]),
    ],
)
def test_overlaps_that_are_just_enough_or_equal_are_taken_as_by_pycocotools(found, true):
    assert rate(found, true) == pytest.approx(rate_by_coco(1, found, true), abs=1e-6)


def test_many_scans_with_more_detections_than_count_are_rated_as_by_pycocotools(monkeypatch):
    monkeypatch.setattr(detection, "CHUNK", 64)  # several slices, no scan divided
    rng = np.random.default_rng(1)
    true, found = [], []
    for scan in range(30):
        for x, y, w, h in rng.uniform(10, 100, (rng.integers(0, 4), 4)):
            true.append((scan, x, y, x + w, y + h))
            for _ in range(rng.integers(0, 60)):
                at = np.array([x, y, x + w, y + h]) + rng.normal(0, 8, 4)
                found.append((scan, rng.random(), at[0], at[1], max(at[0], at[2]), max(at[1], at[3])))
    assert max(np.bincount([of[0] for of in found])) > 100
    ours_T = rate(found, true)
    assert 0.01 < ours_T[0] < 0.99
    assert ours_T == pytest.approx(rate_by_coco(30, found, true), abs=1e-6)


def test_a_class_without_detections_has_the_average_precision_0():
    assert rate([], [(0, 1, 1, 5, 5)]).tolist() == [0.0] * len(IOU_THRESHOLDS)


def test_a_box_is_found_once_and_every_further_detection_of_it_is_wrong():
    found = [(0, 0.9, 0, 0, 10, 10), (0, 0.8, 0, 0, 10, 10)]
    true = [(0, 0, 0, 10, 10), (1, 0, 0, 10, 10)]
    assert rate(found[:1], true)[0] == rate(found, true)[0] == pytest.approx(51 / 101)
