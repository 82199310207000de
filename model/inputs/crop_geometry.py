"""Compute the windows of scans that trimming, cropping and mirroring leave, and transform boxes to them.

A window is left, top, right and bottom, as fractions of the scan as stored; in a mirrored one the left edge lies to the
right of the right edge. The whole scan is (0, 0, 1, 1).

Shapes: B batch  M boxes of a batch
"""

from typing import Any

import numpy as np


def whole_windows(num_scans: int) -> np.ndarray:
    """Return the windows of whole scans, float32 (B, 4)."""
    return np.tile(np.array([0, 0, 1, 1], np.float32), (num_scans, 1))


def read_windows(output: Any) -> np.ndarray:
    """Return the windows in the second output of a DALI graph, float32 (B, 4)."""
    numbers_B6 = np.asarray(output.as_array())  # beside a GPU in page-locked memory, which PyTorch takes from no other
    x_B, y_B, width_B, height_B, whole_width_B, whole_height_B = numbers_B6.T
    edges = (x_B / whole_width_B, y_B / whole_height_B, (x_B + width_B) / whole_width_B)
    return np.stack([*edges, (y_B + height_B) / whole_height_B], axis=1).astype(np.float32)


def boxes_in_windows(edges_M4: np.ndarray, windows_M4: np.ndarray) -> np.ndarray:
    """Return boxes of scans in the coordinates of windows, float32 (M, 4), with left < right.

    Args:
        edges_M4: left, top, right and bottom as fractions of the scan as stored.
        windows_M4: of the scan of each box.
    """
    origin_M4, size_M4 = np.tile(windows_M4[:, :2], 2), np.tile(windows_M4[:, 2:] - windows_M4[:, :2], 2)
    seen_M4 = (edges_M4 - origin_M4) / size_M4
    low_M2, high_M2 = np.minimum(seen_M4[:, :2], seen_M4[:, 2:]), np.maximum(seen_M4[:, :2], seen_M4[:, 2:])
    return np.concatenate([low_M2, high_M2], axis=1).astype(np.float32)


def areas_in(edges_M4: np.ndarray, windows_M4: np.ndarray) -> np.ndarray:
    """Return the area of each box relative to its window, float32 (M,), whether or not it lies within."""
    areas_M, windows_M = (
        np.abs((of_M4[:, 2] - of_M4[:, 0]) * (of_M4[:, 3] - of_M4[:, 1])) for of_M4 in (edges_M4, windows_M4)
    )
    shares_M: np.ndarray = (areas_M / windows_M).astype(np.float32)
    return shares_M
