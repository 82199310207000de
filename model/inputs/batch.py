"""Define the batch that a training step takes.

Shapes: B batch  K classes  C colour  H W pixels  M boxes of a batch
"""

from typing import NamedTuple

from torch import Tensor


class Boxes(NamedTuple):
    """The boxes of a batch, in coordinates of the cropped and mirrored scans."""

    edges_M4: Tensor
    """float32: left, top, right and bottom as fractions of the network's input; a box that the crop cuts off lies
    partly or wholly outside 0..1."""
    areas_M: Tensor
    """float32: the share of the scan before that crop that the box covers, in (0, 1]."""
    scans_M: Tensor
    """int64: the place of its scan in the batch."""
    classes_M: Tensor
    """int64: the number of its class among the K; -1: a class that is not scored."""


class Batch(NamedTuple):
    """The input of one training or validation step."""

    images_BCHW: Tensor
    """float32, normalised, channels_last."""
    labels_BK: Tensor
    """float32: 1 present, 0 absent, -1 unknown (or padding, or an image that cannot be decoded)."""
    rows_B: Tensor
    """int64 into the feed's samples; `feed.samples.keys` has the keys."""
    boxes: Boxes
    """None of padding, or of an image that cannot be decoded."""
    levels_B: Tensor
    """int64: the label of the level for Meta Fusion, from 1 (finest); 0 unknown."""
    is_void_B: Tensor
    """bool: padding, or an image that cannot be decoded; it must add nothing to a loss."""
