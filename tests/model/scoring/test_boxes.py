"""Test that the boxes of a map lie around its parts above a share of the peak, and score as their part does."""

from collections import deque

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from model.scoring.boxes import MIN_SCORE, find_boxes
from model.scoring.heatmaps import MAP_SCALE, join_heatmaps


def list_parts(map_hw, share):
    """Edges in cells and relative height of each part, by a search from cell to cell."""
    height_hw = (map_hw - map_hw.min()) / (map_hw.max() - map_hw.min())
    open_cells, parts = {tuple(cell) for cell in np.argwhere(height_hw >= share)}, []
    while open_cells:
        part, queue = [], deque([open_cells.pop()])
        while queue:
            row, column = queue.popleft()
            part.append((row, column))
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & open_cells
            open_cells -= near
            queue.extend(near)
        rows, columns = np.array(part).T
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        parts.append((*map(int, edges), float(height_hw[rows, columns].max())))
    return parts


@given(
    nps.arrays(np.float32, (2, 3, 6, 6), elements=st.integers(-3, 3)),
    nps.arrays(np.float64, (2, 3), elements=st.floats(0, 1)),
    st.sampled_from([0.2, 0.5, 0.9]),
)
def test_boxes_are_those_of_a_search_from_cell_to_cell(maps_BKhw, scores_BK, share):
    found = find_boxes(maps_BKhw, scores_BK, share)
    expected = []
    for scan, k in np.ndindex(2, 3):
        if scores_BK[scan, k] >= MIN_SCORE and np.ptp(maps_BKhw[scan, k]):
            parts = list_parts(maps_BKhw[scan, k], share)
            expected += [(scan, k, scores_BK[scan, k] * part[4], *(edge / 6 for edge in part[:4])) for part in parts]
            assert found.score_D[(found.scan_D == scan) & (found.class_D == k)].max() == scores_BK[scan, k]
    rows = np.column_stack([found.scan_D, found.class_D, found.score_D, found.edges_D4])
    # Both by scan, class and edges: parts of one height may come in either order.
    ours, theirs = (of[np.lexsort(of.T[[6, 5, 4, 3, 1, 0]])] for of in (rows, np.reshape(expected, (-1, 7))))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    by_scan = np.lexsort((-found.score_D, found.scan_D))
    assert (found.score_D[by_scan] == found.score_D).all() and (np.diff(found.scan_D) >= 0).all()


def test_boxes_lie_in_the_part_of_the_scan_that_the_network_saw():
    maps_BKhw = np.zeros((2, 1, 4, 4), np.float32)
    maps_BKhw[:, 0, 1, 2] = 1
    found = find_boxes(maps_BKhw, np.ones((2, 1)), 0.5)
    windows_B4 = np.array([[0, 0, 1, 1], [0.5, 0.0, 1.0, 0.5]], np.float32)
    placed = found.place(windows_B4, np.array([[400, 200], [400, 200]]))
    assert placed.edges_D4.tolist() == [[200, 50, 300, 100], [300, 25, 350, 50]]


def test_joined_maps_are_the_highest_level_at_each_place():
    levels = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)]
    levels[0][0, 0, 0, 0] = 3.0
    levels[1][0, 1] = 2.0
    joined_BKhw = join_heatmaps(levels)
    assert joined_BKhw.shape == (1, 2, 4 * MAP_SCALE, 4 * MAP_SCALE)
    assert joined_BKhw[0, 0].argmax() == 0 and joined_BKhw[0, 0].max() == 3.0
    assert (joined_BKhw[0, 1] == 2.0).all()
