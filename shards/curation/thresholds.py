"""Which is the n-th smallest of many hashes, where no machine holds them all?

By two looks at them. The first counts how many lie in each of 4,096 equal ranges: that tells in which one the sought
hash lies. The second takes the hashes of that range alone, 2 MB of 1,000 million. There are two kinds of hashes (of
scans with and without an item), and one of each kind is sought.
"""

# T kinds, two  R ranges  N hashes

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_RANGE_BITS = 12
NUM_RANGES = 1 << _RANGE_BITS

Hashes = tuple[np.ndarray, np.ndarray]
"""uint64 (N,) of each kind."""

_NO_COUNTS_TR = np.zeros((2, NUM_RANGES), dtype=np.int64)
_NO_HASHES_N = np.empty(0, dtype=np.uint64)


class Place(NamedTuple):
    """Where a hash stands in the order of its kind."""

    range_index: int
    """-1 where none is sought."""
    rank: int
    """In its range, from 1."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A hash of each kind; -1 where none is sought. Not a tuple: Beam takes its numbers for 64 bits with a sign."""

    first: int
    second: int


def count_ranges(hashes: Hashes) -> np.ndarray:
    """Return how many hashes of each kind lie in each range: int64 (T, R)."""
    return np.stack([np.bincount(_ranges_of(kind_N), minlength=NUM_RANGES) for kind_N in hashes])


def sum_counts(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return the sum of counts, (T, R)."""
    counts_TR: np.ndarray = np.sum([_NO_COUNTS_TR, *parts], axis=0)
    return counts_TR


def find_places(counts_TR: np.ndarray, nums: Sequence[int]) -> tuple[Place, Place]:
    """Return where the `num`-th smallest hash of each kind stands, from 1 on; 0 seeks none."""
    first, second = (_find_place(counts_R, num) for counts_R, num in zip(counts_TR, nums, strict=True))
    return first, second


def _find_place(counts_R: np.ndarray, num: int) -> Place:
    if num == 0:
        return Place(-1, 0)
    ends_R = counts_R.cumsum()
    index = int(np.searchsorted(ends_R, num))
    return Place(index, num - int(ends_R[index] - counts_R[index]))


def take_ranges(hashes: Hashes, places: Sequence[Place]) -> Hashes:
    """Return the hashes of each kind that lie in the range of the sought one."""
    first_N, second_N = (
        kind_N[_ranges_of(kind_N) == place.range_index] for kind_N, place in zip(hashes, places, strict=True)
    )
    return first_N, second_N


def join_hashes(parts: Iterable[Hashes]) -> Hashes:
    """Return the hashes of all parts."""
    found = [(_NO_HASHES_N, _NO_HASHES_N), *parts]
    return np.concatenate([first_N for first_N, _ in found]), np.concatenate([second_N for _, second_N in found])


def find_thresholds(hashes: Hashes, places: Sequence[Place]) -> Thresholds:
    """Return the sought hash of each kind, given all that lie in its range."""
    first, second = (
        int(np.partition(kind_N, rank - 1)[rank - 1]) if rank else -1
        for kind_N, (_, rank) in zip(hashes, places, strict=True)
    )
    return Thresholds(first, second)


def _ranges_of(hashes_N: np.ndarray) -> np.ndarray:
    return (hashes_N >> np.uint64(64 - _RANGE_BITS)).astype(np.int64)
