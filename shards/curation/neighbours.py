"""Group scans of neighbouring numbers that look like one bag, scanned again.

Scanners number scans in order, and a bag that is scanned again lies turned, mirrored or moved. Neither changes how many
pixels have which colour and density, so these counts are compared. Every image is read once more for it and decoded at
reduced size; 0.4 kB of each are shuffled, and the links of groups are gathered.

N pixels or scans  C colours of an image  B bins
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from shards.corpus.read_scan import read_image
from shards.corpus.records import ScanRef
from shards.curation.bags import connect_keys
from shards.format.keys import hash_key, place_in
from shards.images.decode import decode_image
from shards.images.inspect import read_image_size
from shards.images.jpeg import ImageError
from shards.shuffle import NUM_PARTITIONS, batch_by, pack, unpack

NEIGHBOURS = "neighbours"
"""The value of `--group-by` that asks for these groups."""
MAX_GAP = 8
"""Numbers of two scans of a bag differ by at most this: series of two or three bags were scanned in turn."""
MIN_LIKENESS = 0.65
"""Shared part of the counts of two scans, from 0 to 1. `tests/bench/neighbours_*.csv` has how well other values do."""

_NUMBERED = re.compile(r"(?P<series>.*?)(?P<number>\d{1,18})")
_BLOCK = 4096
"""Numbers that are compared in one piece."""
_SIDE_PX = 128
_COUNT_PX = 64
"""Pixels of the original image in a count of one, so that 16 bits hold the largest."""
_READ_THREADS = 4

_COLOUR_BITS = 6
_DROPPED_BITS = 8 - _COLOUR_BITS
"""A channel has 64 values: computing on the colours of an image costs a tenth of computing on its pixels."""
_BACKGROUND_WIDTH = 3
_MIN_ABSORBANCE = 0.15
_DENSITY_STEPS = (0.3, 0.6, 1.0, 1.6, 2.4, 3.5, 5.0)
"""Of the absorbances of red, green and blue, summed."""
_RED_STEPS = (0.1, 0.2, 0.3, 0.4, 0.5)
_BLUE_STEPS = (0.3, 0.4, 0.6)
"""Of a channel's part in that sum: scanners draw organic matter orange, metal blue, and what lies between green."""
NUM_BINS = (len(_DENSITY_STEPS) + 1) * (len(_RED_STEPS) + 1) * (len(_BLUE_STEPS) + 1)


class Look(NamedTuple):
    """What a scan looks like, however its bag is turned."""

    key: str
    series: str
    """Its key without the number at its end."""
    number: int
    counts: bytes
    """`NUM_BINS` unsigned integers of 16 bits."""


def look_at_records(batch: bytes) -> list[Look]:
    """Return the looks of a batch of records; scans without a number or a readable image have none."""
    numbered = [
        (ref, match)
        for ref in unpack(batch)
        if not ref.reason and not ref.group and (match := _NUMBERED.fullmatch(ref.key))
    ]
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="neighbours") as pool:
        counts = pool.map(_read_counts, [ref for ref, _ in numbered])
        return [
            Look(ref.key, match["series"], int(match["number"]), found)
            for (ref, match), found in zip(numbered, counts, strict=True)
            if found is not None
        ]


def _read_counts(ref: ScanRef) -> bytes | None:
    try:
        data = read_image(ref)
        image = decode_image(data, draft_px=_SIDE_PX)
    except (ImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # it is refused later, by name
    width, height = read_image_size(data)
    return count_colours(image, width * height).tobytes()


def count_colours(image: Image.Image, num_pixels: int) -> np.ndarray:
    """Return the pixels of a bag by density and colour.

    The background is the commonest bright colour; it may be grey or tinted.

    Args:
        image: of any size.
        num_pixels: of the image at full size.

    Returns:
        uint16 (B,), in units of 64 pixels at full size.
    """
    scale = min(1.0, _SIDE_PX / max(image.size))
    small = image.convert("RGB").resize([max(1, int(side * scale)) for side in image.size], Image.Resampling.BOX)
    pixels_N3 = np.asarray(small).reshape(-1, 3).astype(np.int32) >> _DROPPED_BITS
    packed_N = (pixels_N3[:, 0] << 2 * _COLOUR_BITS) + (pixels_N3[:, 1] << _COLOUR_BITS) + pixels_N3[:, 2]
    times_C = np.bincount(packed_N, minlength=1)
    colour_C = np.flatnonzero(times_C)
    bin_C, is_bag_C = _sort_colours(colour_C, times_C[colour_C])
    weights_C = times_C[colour_C] * (num_pixels / len(packed_N) / _COUNT_PX)
    counts_B = np.bincount(bin_C[is_bag_C], weights_C[is_bag_C], NUM_BINS)
    return np.minimum(np.rint(counts_B), 2**16 - 1).astype(np.uint16)


def _sort_colours(colour_C: np.ndarray, times_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of each colour that an image has, and whether it belongs to the bag."""
    channels_3 = np.array([2 * _COLOUR_BITS, _COLOUR_BITS, 0])
    value_C3 = ((colour_C[:, None] >> channels_3 & (1 << _COLOUR_BITS) - 1) + 0.5) * (1 << _DROPPED_BITS)
    grey_C = value_C3.mean(axis=1)
    times_of_grey = np.bincount(grey_C.astype(np.int64), times_C, 256)
    commonest = 128 + int(times_of_grey[128:].argmax())
    is_background_C = np.abs(grey_C - commonest) <= _BACKGROUND_WIDTH
    has_background = is_background_C.any()
    background_3 = np.average(value_C3[is_background_C], 0, times_C[is_background_C]) if has_background else 255.0
    absorbance_C3 = np.maximum(-np.log(value_C3 / background_3), 0)
    density_C = absorbance_C3.sum(axis=1)
    part_C3 = absorbance_C3 / np.maximum(density_C, _MIN_ABSORBANCE)[:, None]
    bin_C = np.digitize(density_C, _DENSITY_STEPS)
    bin_C = bin_C * (len(_RED_STEPS) + 1) + np.digitize(part_C3[:, 0], _RED_STEPS)
    bin_C = bin_C * (len(_BLUE_STEPS) + 1) + np.digitize(part_C3[:, 2], _BLUE_STEPS)
    return bin_C, density_C > _MIN_ABSORBANCE


def spread_looks(looks: Iterable[Look]) -> Iterator[tuple[int, bytes]]:
    """Yield looks in batches by range of what is compared: a block of a series, and the first few of the next."""
    items = [(block, look) for look in looks for block in _blocks_of(look.number)]
    return batch_by(items, lambda item: place_in(hash_key(f"{item[1].series} {item[0]}"), NUM_PARTITIONS))


def _blocks_of(number: int) -> set[int]:
    return {number // _BLOCK, max(number - MAX_GAP, 0) // _BLOCK}


def find_links(batches: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield pairs of keys that connect the scans of each group within a block: n - 1 for a group of n."""
    blocks: defaultdict[tuple[str, int], list[Look]] = defaultdict(list)
    for batch in batches:
        for block, look in unpack(batch):
            blocks[look.series, block].append(look)
    for looks in blocks.values():
        connected = connect_keys(_link_alike(sorted(looks, key=lambda look: (look.number, look.key))))
        yield from ((first, key) for key, first in connected.items() if key != first)


def _link_alike(looks: list[Look]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of scans that look alike and are neighbours, given in order."""
    numbers_N = np.array([look.number for look in looks])
    counts_NB = np.array([np.frombuffer(look.counts, np.uint16) for look in looks], np.float32)
    for step in range(1, min(MAX_GAP + 1, len(looks))):
        one_NB, other_NB = counts_NB[:-step], counts_NB[step:]
        all_N = np.maximum(one_NB, other_NB).sum(axis=1)
        shared_N = np.minimum(one_NB, other_NB).sum(axis=1)
        is_near_N = numbers_N[step:] - numbers_N[:-step] <= MAX_GAP
        is_alike_N = is_near_N & (all_N > 0) & (shared_N >= MIN_LIKENESS * all_N)
        yield from ((looks[at].key, looks[at + step].key) for at in np.flatnonzero(is_alike_N))


def group_records(batch: bytes, first_of: Mapping[str, str]) -> bytes:
    """Return a batch of records with the groups of some keys, named by the first of their keys."""
    return pack([ref._replace(group=ref.group or first_of.get(ref.key, "")) for ref in unpack(batch)])
