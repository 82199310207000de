"""Which part of a scan does a network see? Windows: what trimming, cropping and mirroring left, and boxes within them.

A window is left, top, right and bottom, as fractions of the scan as stored; where it is mirrored its left edge stands
to the right of its right one. The whole scan is (0, 0, 1, 1).

Shapes: B batch  M boxes of a batch
"""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.dlpack import from_dlpack


def whole_windows(num_scans: int) -> np.ndarray:
    """Return the windows of scans that are seen as they are, float32 (B, 4)."""
    return np.tile(np.array([0, 0, 1, 1], np.float32), (num_scans, 1))


def read_windows(output: Any) -> np.ndarray:
    """Return the windows that a graph's second output tells of, float32 (B, 4)."""
    numbers_B6 = from_dlpack(output.as_tensor()).numpy()
    x_B, y_B, width_B, height_B, whole_width_B, whole_height_B = numbers_B6.T
    edges = (x_B / whole_width_B, y_B / whole_height_B, (x_B + width_B) / whole_width_B)
    return np.stack([*edges, (y_B + height_B) / whole_height_B], axis=1).astype(np.float32)


def crop_windows(windows_B4: np.ndarray, augmentations_B3: np.ndarray, resize_px: int, crop_px: int) -> np.ndarray:
    """Return what a random crop leaves of windows, float32 (B, 4).

    Args:
        windows_B4: what is squashed to a square of `resize_px`.
        augmentations_B3: crop x and y, and mirror, as `model.inputs.feeds` draws them.
        resize_px: side of the square.
        crop_px: side of the part that is cut out of it.
    """
    room_px = resize_px - crop_px
    # DALI rounds the corner to a pixel, half up.
    corner_B2 = np.floor(augmentations_B3[:, :2].astype(np.float32) * np.float32(room_px) + np.float32(0.5))
    inner_B4 = np.concatenate([corner_B2, corner_B2 + crop_px], axis=1) / resize_px
    origin_B4, size_B4 = np.tile(windows_B4[:, :2], 2), np.tile(windows_B4[:, 2:] - windows_B4[:, :2], 2)
    cropped_B4 = origin_B4 + inner_B4 * size_B4
    is_mirrored_B1 = is_mirrored(augmentations_B3)[:, None]
    windows_B4 = np.where(is_mirrored_B1, cropped_B4[:, [2, 1, 0, 3]], cropped_B4)
    return windows_B4.astype(np.float32, copy=False)


def is_mirrored(augmentations_B3: np.ndarray) -> np.ndarray:
    """Say which scans are mirrored, bool (B,): every second one."""
    mirrored_B: np.ndarray = augmentations_B3[:, 2] < 0.5
    return mirrored_B


def see_boxes(edges_M4: np.ndarray, windows_M4: np.ndarray) -> np.ndarray:
    """Return boxes of scans as they lie in windows, float32 (M, 4), left to the left of right again.

    Args:
        edges_M4: left, top, right and bottom as fractions of the scan as stored.
        windows_M4: of each box' scan.
    """
    origin_M4, size_M4 = np.tile(windows_M4[:, :2], 2), np.tile(windows_M4[:, 2:] - windows_M4[:, :2], 2)
    seen_M4 = (edges_M4 - origin_M4) / size_M4
    low_M2, high_M2 = np.minimum(seen_M4[:, :2], seen_M4[:, 2:]), np.maximum(seen_M4[:, :2], seen_M4[:, 2:])
    return np.concatenate([low_M2, high_M2], axis=1).astype(np.float32)


def areas_in(edges_M4: np.ndarray, windows_M4: np.ndarray) -> np.ndarray:
    """Return how much of its window each box would cover if all of it lay within, float32 (M,)."""
    areas_M, windows_M = (
        np.abs((of_M4[:, 2] - of_M4[:, 0]) * (of_M4[:, 3] - of_M4[:, 1])) for of_M4 in (edges_M4, windows_M4)
    )
    shares_M: np.ndarray = (areas_M / windows_M).astype(np.float32)
    return shares_M


class Boxes(NamedTuple):
    """The items of a batch, each scan as the network sees it: cropped, mirrored."""

    edges_M4: Tensor
    """float32: left, top, right and bottom as fractions of what the network sees; a box may lie outside 0..1 partly or
    wholly, where the crop cut it off."""
    areas_M: Tensor
    """float32: the share of the scan before that crop that the box covers, in (0, 1]."""
    scans_M: Tensor
    """int64: the place of its scan in the batch."""
