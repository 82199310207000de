"""Draw the random crops and mirrors of an epoch, and compute the windows that they leave.

The draws follow from (seed, epoch, entry) alone, not from batch size, rank, worker or point of resumption.

Shapes: B batch  E entries of an epoch
"""

import numpy as np

from model.inputs.sampling import seeded_generator


def epoch_augmentations(num_entries: int, seed: int, epoch: int, *, stream: int = 1) -> np.ndarray:
    """Return float64 (E, 3) in [0, 1): crop x, crop y and mirror of each entry in one epoch."""
    draws_E3: np.ndarray = seeded_generator(seed, epoch, stream).random((num_entries, 3))
    return draws_E3


def crop_windows(windows_B4: np.ndarray, augmentations_B3: np.ndarray, resize_px: int, crop_px: int) -> np.ndarray:
    """Return the windows (B, 4), float32, that random crops leave of the given ones.

    Args:
        windows_B4: squashed to a square of `resize_px`.
        augmentations_B3: rows of `epoch_augmentations`.
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
    """Say which scans are mirrored, bool (B,): half of them."""
    mirrored_B: np.ndarray = augmentations_B3[:, 2] < 0.5
    return mirrored_B
