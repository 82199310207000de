"""Cut objects out of scans: their own transmission, without the bag that they lie in.

A scan is the product of the transmissions of all that the beam passes (Eq. 1 of the CHR paper), so what an object takes
away is the scan divided by what would be there without it, which is estimated from its surroundings.

Shapes: H W pixels  C colour
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MIN_ATTENUATION = 0.05
"""What takes less than 5 % of the light in every channel is no part of an object: noise has as much."""
_MIN_LEVEL, _MAX_TINT = 150, 45
"""Empty space is bright and nearly grey; scanners show it as white, as grey, or with a tint."""
_MAX_WHITE_DIFFERENCE = 30
"""Scans of one kind of scanner differ by less."""
_DENSE_SIDES_PX = (50, 320)
"""Of other objects, as items have them: in SIXray nine of ten."""
_MIN_SIDE_PX = 12
_MIN_MARGIN_PX = 8
_MARGIN_FRACTION = 0.2
_MAX_ATTENUATION = float(np.log(255))
_THIN_PX = 3
"""How far thin parts may reach from what is surely the object."""
_EDGE_PX = 2
"""How far an edge reaches beyond where it is half as dense as the object."""
_BLOCK_PX = 4
"""The surroundings are smooth: they are estimated on blocks of pixels."""
_EIGHT = np.ones((3, 3), bool)

# When a cut is taken for the object, and nothing but the object.
_MIN_OVERLAP = 0.45
"""Of the box that was given and the extent of what was cut: intersection over union."""
_MAX_LEAK = 0.06
"""Share of the border of the box across which what was cut goes on outside: a frame or a cable, not an object."""
_MIN_CONTRAST = 1.2
"""The object's attenuation above its surroundings: nearly a factor of 3.3 in light."""
_MAX_FILL = 0.75
"""Share of the box: a panel fills it, an item does not."""


class Extent(NamedTuple):
    """A rectangle of whole pixels, from left and top up to right and bottom, not counting these."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object without its bag."""

    attenuation_HWC: Floats
    """Minus the natural logarithm of its transmission, >= 0; 0 beside the object, which touches all four edges."""
    extent: Extent
    """Where it was."""
    white: tuple[int, int, int]
    """How its scanner shows empty space."""


def find_white(pixels_HWC: Pixels) -> tuple[int, int, int]:
    """Return the colour in which a scan shows empty space: in each channel the most common value of bright grey."""
    planes = [pixels_HWC[::2, ::2, at].ravel() for at in range(3)]
    low, high = reduce(np.minimum, planes), reduce(np.maximum, planes)
    is_bright = (low >= _MIN_LEVEL) & (high - low <= _MAX_TINT)
    if not is_bright.any():
        return 255, 255, 255
    red, green, blue = (int(np.bincount(plane[is_bright], minlength=256).argmax()) for plane in planes)
    return red, green, blue


def fits_scanner(one: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether two scanners show empty space alike."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= _MAX_WHITE_DIFFERENCE


def attenuation_of(pixels_HWC: Pixels, white: tuple[int, int, int]) -> Floats:
    """Return minus the logarithm of the transmission of each pixel and channel, in [0, log 255]."""
    share_HWC = np.clip(pixels_HWC / np.array(white, np.float32), 1 / 255, 1)
    attenuation_HWC: Floats = -np.log(share_HWC).astype(np.float32)
    return attenuation_HWC


def cut_object(
    pixels_HWC: Pixels, box: tuple[float, float, float, float], white: tuple[int, int, int] | None = None
) -> Cutout | None:
    """Cut the densest object out of a box; None if nothing there can be told from what lies around it.

    The red channel tells metal from its surroundings: whatever the palette, organic matter is orange and lets red pass.

    Args:
        pixels_HWC: a scan in RGB.
        box: left, top, right and bottom in pixels, close around the object.
        white: of the scan, if known.
    """
    white = white or find_white(pixels_HWC)
    height, width = pixels_HWC.shape[:2]
    inner = _clip(Extent(*map(math.floor, box[:2]), *map(math.ceil, box[2:])), width, height)
    if min(inner.width, inner.height) < _MIN_SIDE_PX:
        return None
    across, down = (max(_MIN_MARGIN_PX, int(_MARGIN_FRACTION * side)) for side in (inner.width, inner.height))
    outer = _grow(inner, across, down, width, height)
    seen_HWC = attenuation_of(pixels_HWC[outer.top : outer.bottom, outer.left : outer.right], white)
    rows = slice(inner.top - outer.top, inner.bottom - outer.top)
    columns = slice(inner.left - outer.left, inner.right - outer.left)
    is_inner_HW = np.zeros(seen_HWC.shape[:2], bool)
    is_inner_HW[rows, columns] = True
    red_HW = seen_HWC[..., 0]
    dense_HW = ndimage.median_filter(red_HW, 3)
    threshold = split_in_two(dense_HW[is_inner_HW])
    object_HW = _main_part((dense_HW > threshold) & is_inner_HW)
    if not _is_separate(object_HW, dense_HW, dense_HW > threshold, is_inner_HW):
        return None
    object_HW = _add_thin_parts(object_HW, red_HW, is_inner_HW)
    own_HWC = _without_background(seen_HWC, object_HW, dense_HW > threshold)
    trimmed_HWC, at = trim(own_HWC)
    extent = Extent(at.left + outer.left, at.top + outer.top, at.right + outer.left, at.bottom + outer.top)
    return Cutout(trimmed_HWC, extent, white)


def find_dense_objects(
    pixels_HWC: Pixels,
    white: tuple[int, int, int],
    min_side_px: int = _DENSE_SIDES_PX[0],
    max_side_px: int = _DENSE_SIDES_PX[1],
) -> list[Extent]:
    """Return the extents of dense objects whose longer side is within limits, from left to right: rods, toys."""
    light_HW = ndimage.uniform_filter(pixels_HWC[..., 0].astype(np.float32), 3)
    dense_HW = -np.log((light_HW / white[0]).clip(1 / 255, 1))
    is_bag_HW = dense_HW > MIN_ATTENUATION
    if not is_bag_HW.any():
        return []
    labels_HW, _ = ndimage.label(dense_HW > split_in_two(dense_HW[is_bag_HW]), _EIGHT)
    extents = (
        Extent(across.start, down.start, across.stop, down.stop) for down, across in ndimage.find_objects(labels_HW)
    )
    height, width = dense_HW.shape
    chosen = (at for at in extents if min_side_px <= max(at.width, at.height) <= max_side_px)
    return sorted(_grow(at, _EDGE_PX, _EDGE_PX, width, height) for at in chosen)


def split_in_two(values: Floats) -> float:
    """Return the threshold that splits values into two classes with the least variance within.

    Source:
        N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979.
    """
    counts, edges = np.histogram(values, bins=128, range=(0, _MAX_ATTENUATION))
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * centres)
    total, whole = below[-1], sums[-1]
    is_split = (below > 0) & (below < total)
    if not is_split.any():
        return float(edges[-1])
    between = np.zeros(len(counts))
    between[is_split] = (sums * total - whole * below)[is_split] ** 2 / (below * (total - below))[is_split]
    return float(edges[1:][between.argmax()])


def trim(attenuation_HWC: Floats) -> tuple[Floats, Extent]:
    """Return the part that holds all that is not 0, and where it was."""
    is_object_HW = mask_of(attenuation_HWC)
    rows, columns = np.flatnonzero(is_object_HW.any(axis=1)), np.flatnonzero(is_object_HW.any(axis=0))
    extent = Extent(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return attenuation_HWC[extent.top : extent.bottom, extent.left : extent.right], extent


def mask_of(attenuation_HWC: Floats) -> Mask:
    """Return which pixels are of the object."""
    is_object_HW: Mask = reduce(np.maximum, np.moveaxis(attenuation_HWC, 2, 0)) > 0
    return is_object_HW


def drop_traces(attenuation_HWC: Floats) -> Floats:
    """Return the attenuation with 0 where it is too little to belong to an object."""
    is_object_HW = attenuation_HWC.max(axis=2) >= MIN_ATTENUATION
    return np.where(is_object_HW[..., None], attenuation_HWC.clip(0, _MAX_ATTENUATION), 0).astype(np.float32)


def _main_part(dense_HW: Mask) -> Mask:
    """Return the largest piece with those that nearly touch it."""
    labels_HW, num_pieces = ndimage.label(dense_HW, _EIGHT)
    if not num_pieces:
        return dense_HW
    sizes = np.bincount(labels_HW.ravel())[1:]
    main_HW: Mask = labels_HW == 1 + int(sizes.argmax())
    near = np.unique(labels_HW[ndimage.binary_dilation(main_HW, iterations=_THIN_PX + 1)])
    kept = [label for label in near if label and sizes[label - 1] > 0.02 * sizes.max()]
    part_HW: Mask = np.isin(labels_HW, kept)
    return part_HW


def _is_separate(object_HW: Mask, dense_HW: Floats, is_dense_HW: Mask, is_inner_HW: Mask) -> bool:
    around_HW = ~ndimage.binary_dilation(object_HW, iterations=_THIN_PX)
    if not object_HW.any() or not around_HW.any():
        return False
    _, extent = trim(object_HW[..., None].astype(np.float32))
    overlap = extent.width * extent.height / is_inner_HW.sum()
    border_HW = ndimage.binary_dilation(is_inner_HW, iterations=2) & ~is_inner_HW
    outside_HW = ndimage.binary_dilation(object_HW, iterations=2) & is_dense_HW & border_HW
    return bool(
        overlap >= _MIN_OVERLAP
        and object_HW.sum() <= _MAX_FILL * is_inner_HW.sum()
        and outside_HW.sum() <= _MAX_LEAK * max(1, border_HW.sum())
        and np.median(dense_HW[object_HW]) - np.median(dense_HW[around_HW]) >= _MIN_CONTRAST
    )


def _add_thin_parts(object_HW: Mask, red_HW: Floats, is_inner_HW: Mask) -> Mask:
    """Return the object with what is connected to it, near and halfway as dense: the edge, a trigger's guard."""
    around_HW = ~ndimage.binary_dilation(object_HW, iterations=_THIN_PX)
    empty, full = np.median(red_HW[around_HW]), np.median(red_HW[object_HW])
    near_HW = ndimage.binary_dilation(object_HW, iterations=_THIN_PX) & is_inner_HW
    grown_HW: Mask = ndimage.binary_propagation(
        object_HW, mask=near_HW & (red_HW > empty + 0.4 * (full - empty)), structure=_EIGHT
    )
    return grown_HW


def _without_background(seen_HWC: Floats, object_HW: Mask, is_dense_HW: Mask) -> Floats:
    """Return what the object alone attenuates; its edge fades over a pixel or two."""
    around_HW = ~ndimage.binary_dilation(object_HW | is_dense_HW, iterations=_THIN_PX)
    if not around_HW.any():
        around_HW = ~ndimage.binary_dilation(object_HW, iterations=_THIN_PX)
    share_HW = ndimage.gaussian_filter(ndimage.binary_dilation(object_HW).astype(np.float32), 0.7)
    own_HWC = (seen_HWC - _fill_in(seen_HWC, around_HW)).clip(0)
    # The edge fades in light, not in its logarithm.
    faded_HWC = -np.log1p(share_HW[..., None] * np.expm1(-own_HWC))
    return drop_traces(faded_HWC)


def _fill_in(seen_HWC: Floats, is_known_HW: Mask) -> Floats:
    """Return the mean light of the nearest known pixels, as attenuation."""
    light_HWC = np.exp(-seen_HWC) * is_known_HW[..., None]
    known_HW = _block_means(is_known_HW.astype(np.float32)[..., None])[..., 0]
    blocks_HWC = _block_means(light_HWC)
    filled_HWC = np.zeros_like(blocks_HWC)
    left_HW = np.ones_like(known_HW)
    for sigma in (1.0, 2.0, 4.0, 8.0, 16.0, 64.0):
        weight_HW = ndimage.gaussian_filter(known_HW, sigma)
        taken_HW = left_HW * (1 if sigma == 64.0 else (weight_HW / 0.05).clip(0, 1))
        means_HWC = ndimage.gaussian_filter(blocks_HWC, (sigma, sigma, 0)) / weight_HW.clip(1e-6)[..., None]
        filled_HWC += taken_HW[..., None] * means_HWC
        left_HW = left_HW - taken_HW
    zoom = (_BLOCK_PX, _BLOCK_PX, 1)
    whole_HWC = ndimage.zoom(filled_HWC, zoom, order=1, mode="nearest", grid_mode=True)
    height, width = is_known_HW.shape
    filled: Floats = -np.log(whole_HWC[:height, :width].clip(1 / 255, 1))
    return filled


def _block_means(values_HWC: Floats) -> Floats:
    height, width, channels = values_HWC.shape
    room = ((0, -height % _BLOCK_PX), (0, -width % _BLOCK_PX), (0, 0))
    padded = np.pad(values_HWC, room)
    split = padded.reshape(padded.shape[0] // _BLOCK_PX, _BLOCK_PX, padded.shape[1] // _BLOCK_PX, _BLOCK_PX, channels)
    means: Floats = split.mean(axis=(1, 3))
    return means


def _grow(at: Extent, across_px: int, down_px: int, width: int, height: int) -> Extent:
    whole = Extent(at.left - across_px, at.top - down_px, at.right + across_px, at.bottom + down_px)
    return _clip(whole, width, height)


def _clip(at: Extent, width: int, height: int) -> Extent:
    return Extent(max(0, at.left), max(0, at.top), min(width, at.right), min(height, at.bottom))
