"""Define the batch that a training step takes.

Shapes: B batch  K classes  C colour  H W pixels  M boxes of a batch
"""

from typing import NamedTuple

from torch import Tensor


class Boxes(NamedTuple):
    """The items of a batch, each scan as the network sees it: cropped, mirrored."""

    edges_M4: Tensor
    """float32: left, top, right and bottom as fractions of what the network sees; a box may lie outside 0..1 partly or
    wholly, where the crop cut it off."""
    areas_M: Tensor
    """float32: the share of the scan before that crop that the box covers, in (0, 1]."""
    scans_M: Tensor
    """int64: the place of its scan in the batch."""


class Batch(NamedTuple):
    """What a step takes."""

    images_BCHW: Tensor
    """float32, normalised, channels_last."""
    labels_BK: Tensor
    """float32: 1 present, 0 absent, NaN unknown (or padding, or an image that cannot be decoded)."""
    rows_B: Tensor
    """int64 into the feed's samples; `feed.samples.keys` has the keys."""
    boxes: Boxes
    """Of the scored classes, as the network sees them; none of padding, or of an image that cannot be decoded."""
    levels_B: Tensor
    """int64: the level that Meta Fusion is to prefer, from 1 (finest); 0 unknown."""
