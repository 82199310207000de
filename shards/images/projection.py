"""Project objects into scans: place them within a bag and multiply the transmissions.

Shapes: H W pixels  C colour  h w blocks of pixels
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage, signal

from shards.images.cutouts import (
    Cutout,
    Extent,
    Floats,
    Mask,
    Pixels,
    attenuation_of,
    drop_traces,
    mask_of,
    trim,
)

MIN_SCALE, MAX_SCALE = 0.8, 1.25
_LAST_SCALE = 0.6
"""Of the last attempt, where a bag is too small for others."""
_NUM_ATTEMPTS = 4
_MAX_BLOCKS = 160
"""Places are compared on blocks of pixels, as many along the longer side: the bag is shrunk to blocks that lie wholly
within, the object grown to all that it touches, so that no pixel of it lies outside."""
_ROOM_PX = 2
"""Around an object, for the interpolation at its edge."""
_MAX_BAG_LIGHT = 0.93
"""A bag takes 7 % of the light in some channel, be it empty."""
_MIN_BAG_FRACTION = 0.01
"""Of the scan; smaller pieces are tags and handles."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A scan with an object more."""

    pixels_HWC: Pixels
    extent: Extent
    """Of the object."""
    occlusion: float
    """The share of the object's pixels over which the scan without it takes away more light than the object does."""


def project(
    pixels_HWC: Pixels,
    white: tuple[int, int, int],
    cutout: Cutout,
    rng: np.random.Generator,
    taken: Sequence[Extent] = (),
) -> Projection | None:
    """Multiply a scaled and turned object into a bag of a scan; None if there is no place within one.

    Args:
        pixels_HWC: a scan in RGB.
        white: of the scan, see `shards.images.cutouts`.
        cutout: the object.
        rng: chooses scale, angle, mirror and place.
        taken: extents that the object must keep off, those of the items in the scan.
    """
    found = find_projection(pixels_HWC, white, cutout, rng, taken)
    if found is None:
        return None
    at, own_HWC = found
    seen_HWC = attenuation_of(pixels_HWC[at.top : at.bottom, at.left : at.right], white)
    return Projection(multiply(pixels_HWC, own_HWC, at.left, at.top), at, measure_occlusion(own_HWC, seen_HWC))


def find_projection(
    pixels_HWC: Pixels,
    white: tuple[int, int, int],
    cutout: Cutout,
    rng: np.random.Generator,
    taken: Sequence[Extent] = (),
    squash: tuple[float, float] = (1.0, 1.0),
) -> tuple[Extent, Floats] | None:
    """Return where an object is to be multiplied into a scan, and its attenuation there, (h, w, C); see `project`.

    `squash` is what the scan's width and height were multiplied by since it was taken; the object's scanner's are 1.
    """
    free_HW = find_bags(pixels_HWC, white)
    for at in taken:
        free_HW[at.top : at.bottom, at.left : at.right] = False
    for attempt in range(_NUM_ATTEMPTS):
        is_last = attempt == _NUM_ATTEMPTS - 1
        scale = _LAST_SCALE if is_last else math.exp(rng.uniform(math.log(MIN_SCALE), math.log(MAX_SCALE)))
        own_HWC = turn(cutout.attenuation_HWC, scale, rng.uniform(0, 2 * math.pi), is_mirrored=rng.random() < 0.5)
        if squash != (1.0, 1.0):
            own_HWC = _squash(own_HWC, squash)
        corner = find_place(free_HW, mask_of(own_HWC), rng) if own_HWC.any() else None
        if corner is not None:
            x, y = corner
            height, width = own_HWC.shape[:2]
            return Extent(x, y, x + width, y + height), own_HWC
    return None


def multiply(pixels_HWC: Pixels, attenuation_HWC: Floats, x: int, y: int) -> Pixels:
    """Return a scan with an object whose upper left corner is at (x, y): the product of both transmissions.

    Source:
        Eq. 1 of the CHR paper, for pixels in place of features.
    """
    height, width = attenuation_HWC.shape[:2]
    result_HWC = pixels_HWC.copy()
    part_HWC = pixels_HWC[y : y + height, x : x + width] * np.exp(-attenuation_HWC)
    result_HWC[y : y + height, x : x + width] = np.rint(part_HWC)
    return result_HWC


def turn(attenuation_HWC: Floats, scale: float, angle: float, *, is_mirrored: bool) -> Floats:
    """Return an object mirrored, scaled and turned (radians), trimmed to its new extent; interpolated once."""
    room = ((_ROOM_PX, _ROOM_PX), (_ROOM_PX, _ROOM_PX), (0, 0))
    source_HWC = np.pad(attenuation_HWC[:, ::-1] if is_mirrored else attenuation_HWC, room)
    height, width = source_HWC.shape[:2]
    cos, sin = math.cos(angle), math.sin(angle)
    # A pixel of the result at p - centre comes from matrix @ (p - centre) of the source; axes are y, x.
    matrix = np.array([[cos, sin], [-sin, cos]]) / scale
    sides = (abs(cos) * height + abs(sin) * width, abs(sin) * height + abs(cos) * width)
    # Less a trifle, so that a quarter turn needs no interpolation.
    size = [math.ceil(scale * side - 1e-6) for side in sides]
    centre = (np.array(size) - 1) / 2
    offset = (np.array([height, width]) - 1) / 2 - matrix @ centre
    light_HWC = np.expm1(-source_HWC)  # 0 beside the object, as the interpolation assumes outside of the array
    turned_HWC = np.stack(
        [
            ndimage.affine_transform(light_HWC[..., at], matrix, offset, tuple(size), order=2)
            for at in range(light_HWC.shape[2])
        ],
        axis=2,
    )
    own_HWC, _ = trim(drop_traces(-np.log1p(turned_HWC.clip(1 / 255 - 1, 0))))
    return own_HWC


def _squash(attenuation_HWC: Floats, factors: tuple[float, float]) -> Floats:
    """Return an object at another width and height, each pixel the mean of the light that it stands for."""
    height, width = attenuation_HWC.shape[:2]
    size = (max(1, round(width * factors[0])), max(1, round(height * factors[1])))
    light_HWC = np.expm1(-attenuation_HWC)
    planes = [Image.fromarray(light_HWC[..., at]).resize(size, Image.Resampling.BILINEAR) for at in range(3)]
    squashed_HWC = np.stack([np.asarray(plane) for plane in planes], axis=2)
    return drop_traces(-np.log1p(squashed_HWC.clip(1 / 255 - 1, 0)))


def find_bags(pixels_HWC: Pixels, white: tuple[int, int, int]) -> Mask:
    """Return where the bags of a scan are, without gaps within."""
    height, width = pixels_HWC.shape[:2]
    block_px = _block_size(height, width)
    rows, columns = height // block_px, width // block_px
    means_hwC = np.asarray(Image.fromarray(pixels_HWC).reduce(block_px))[:rows, :columns]
    darkest_hw = (means_hwC / np.array(white)).min(axis=2)
    is_bag_hw = np.pad(darkest_hw < _MAX_BAG_LIGHT, 4)
    closed_hw = ndimage.binary_fill_holes(ndimage.binary_closing(is_bag_hw, iterations=3))
    # Opened, so that handles and lines of the belt fall away, and shrunk from the edge.
    opened_hw = ndimage.binary_erosion(ndimage.binary_opening(closed_hw, iterations=2))[4:-4, 4:-4]
    labels_hw, _ = ndimage.label(opened_hw)
    sizes = np.bincount(labels_hw.ravel())
    sizes[0] = 0
    kept_hw = (sizes >= _MIN_BAG_FRACTION * labels_hw.size)[labels_hw]
    bags_HW = np.zeros((height, width), bool)
    bags_HW[: rows * block_px, : columns * block_px] = kept_hw.repeat(block_px, axis=0).repeat(block_px, axis=1)
    return bags_HW


def find_place(free_HW: Mask, object_HW: Mask, rng: np.random.Generator) -> tuple[int, int] | None:
    """Return a random upper left corner (x, y) at which all of an object lies where it may; None if there is none."""
    block_px = _block_size(*free_HW.shape)
    rows, columns = (side // block_px for side in free_HW.shape)
    taken_hw = _any_of_blocks(~free_HW[: rows * block_px, : columns * block_px], block_px)
    object_hw = _any_of_blocks(np.pad(object_HW, [(0, -side % block_px) for side in object_HW.shape]), block_px)
    if object_hw.shape[0] > rows or object_hw.shape[1] > columns:
        return None
    outside_hw = signal.fftconvolve(taken_hw, object_hw[::-1, ::-1], mode="valid")
    places = np.argwhere(outside_hw < 0.5)
    if not len(places):
        return None
    row, column = places[rng.integers(len(places))]
    return int(column) * block_px, int(row) * block_px


def measure_occlusion(own_HWC: Floats, scan_HWC: Floats) -> float:
    """Return the share of an object's pixels over which the scan takes away more light, over all channels."""
    is_object_HW = mask_of(own_HWC)
    is_hidden_HW = scan_HWC.sum(axis=2) > own_HWC.sum(axis=2)
    return float((is_hidden_HW & is_object_HW).sum() / is_object_HW.sum())


def _any_of_blocks(mask_HW: Mask, block_px: int) -> Floats:
    """Return 1 for each block that has a pixel of a mask, else 0."""
    rows, columns = (side // block_px for side in mask_HW.shape)
    any_hw: Floats = mask_HW.reshape(rows, block_px, columns, block_px).max(axis=(1, 3)).astype(np.float32)
    return any_hw


def _block_size(height: int, width: int) -> int:
    return max(1, -(-max(height, width) // _MAX_BLOCKS))
