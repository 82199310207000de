"""Plan the scans of the experiment: each is the product of two real ones, a channel at a time (Eq. 1 of the CHR paper).

A positive is a scan with an item times a scan without; a negative is two scans without. Both are mirrored
independently of each other, and both kinds are made in the same way, so that no trace of the making carries the label.

Shapes: N real scans  M composed scans  H W pixels  C colour
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.curation.folds import assign_folds

NUM_FOLDS = 3
RATIOS = (10, 30, 100)
"""Negatives per positive; the negatives of a ratio are the first of those of the next."""
CLASSES = ("Gun", "Knife", "Wrench")
NO_ITEM = -1
NUM_ORIENTATIONS = 4
"""As it is, left to right, upside down, both."""
_NUM_PARTS = 2 * NUM_FOLDS
TRAINING, HELD_OUT, TEST = "training", "held out", "test"

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many scans a fold composes."""

    positives_of_class: int = 50
    """For training: different scans with an item, from as many bags as there are."""
    held_out_partners: int = 2
    """Scans without an item that each positive is multiplied by, one at a time."""
    held_out_negatives: int = 800
    test_partners: int = 3
    test_negatives: int = 2400

    @property
    def positives(self) -> int:
        """For training."""
        return self.positives_of_class * len(CLASSES)


@dataclass(frozen=True, slots=True)
class Sources:
    """The real scans that are multiplied, without copies to the byte."""

    class_N: IntArray
    """Index into CLASSES, NO_ITEM for a scan without an item."""
    bag_N: IntArray
    """From 0 without gaps; scans with the same number show one bag."""


@dataclass(frozen=True, slots=True)
class Compositions:
    """Composed scans: for each fold those of training, the held-out ones, and those of the test."""

    fold_M: IntArray
    split_M: npt.NDArray[np.str_]
    class_M: IntArray
    """As in `Sources`."""
    first_M: IntArray
    """The source that may have an item."""
    second_M: IntArray
    """A source without an item."""
    orientations_M2: IntArray
    """Of first and second."""

    def rows(self, fold: int, split: str, ratio: int | None = None) -> IntArray:
        """Return the rows of a fold's split, positives first; of training at a ratio, the first of the negatives."""
        rows = np.flatnonzero((self.fold_M == fold) & (self.split_M == split))
        is_positive = self.class_M[rows] != NO_ITEM
        negatives = rows[~is_positive]
        if ratio is not None:
            negatives = negatives[: ratio * int(is_positive.sum())]
        return np.concatenate([rows[is_positive], negatives])


def assign_parts(sources: Sources) -> IntArray:
    """Return the part of each source, from 0 below `2 * NUM_FOLDS`: all scans of a bag in one, every class in each."""
    part_N, kind_G = np.zeros(len(sources.bag_N), np.int64), kinds_of_bags(sources)
    for kind in np.unique(kind_G):
        of_kind_N = kind_G[sources.bag_N] == kind
        names = pa.array([f"{bag:06d}" for bag in sources.bag_N[of_kind_N]])
        part_N[of_kind_N] = assign_folds(names, np.ones(int(of_kind_N.sum()), bool), _NUM_PARTS) - 1
    return part_N


def kinds_of_bags(sources: Sources) -> IntArray:
    """Return the class of each bag, NO_ITEM for one without items; the first class of the few bags that hold two."""
    kind_G = np.full(sources.bag_N.max() + 1, len(CLASSES))
    np.minimum.at(kind_G, sources.bag_N, np.where(sources.class_N == NO_ITEM, len(CLASSES), sources.class_N))
    return np.where(kind_G == len(CLASSES), NO_ITEM, kind_G)


def parts_of(fold: int) -> dict[str, tuple[int, ...]]:
    """Return the parts of the sources that each split of a fold is composed of: two are tested, one is held out."""
    test = (2 * fold, 2 * fold + 1)
    held_out = ((2 * fold + 2) % _NUM_PARTS,)
    training = tuple(part for part in range(_NUM_PARTS) if part not in test + held_out)
    return {TRAINING: training, HELD_OUT: held_out, TEST: test}


def compose(sources: Sources, sizes: Sizes, seed: int = 0) -> Compositions:
    """Return the plan of all folds; it depends on sources, sizes and seed alone."""
    part_N = assign_parts(sources)
    found: list[tuple[int, str, int, np.int64, np.int64]] = []
    random = np.random.default_rng(seed)
    for fold in range(NUM_FOLDS):
        for split, parts in parts_of(fold).items():
            within_N = np.isin(part_N, parts)
            clean = np.flatnonzero(within_N & (sources.class_N == NO_ITEM))
            for number in range(len(CLASSES)):
                items = np.flatnonzero(within_N & (sources.class_N == number))
                if split == TRAINING:
                    items = _from_many_bags(items, sources.bag_N, sizes.positives_of_class, random)
                partners = {TRAINING: 1, HELD_OUT: sizes.held_out_partners, TEST: sizes.test_partners}[split]
                pairs = [(item, other) for item in items for other in random.permutation(clean)[:partners]]
                found += [(fold, split, number, *pair) for pair in pairs]
            most = {TRAINING: RATIOS[-1] * sizes.positives, HELD_OUT: sizes.held_out_negatives}
            count = most.get(split, sizes.test_negatives)
            found += [(fold, split, NO_ITEM, *pair) for pair in _pair_clean(clean, sources.bag_N, count, random)]
    orientations_M2 = random.integers(0, NUM_ORIENTATIONS, (len(found), 2))
    fold_M, split_M, class_M, first_M, second_M = map(np.array, zip(*found, strict=True))
    return Compositions(fold_M, split_M, class_M, first_M, second_M, orientations_M2)


def multiply(images_NHWC: npt.NDArray[np.uint8], plan: Compositions, rows: IntArray) -> npt.NDArray[np.float32]:
    """Return composed scans (M, H, W, C), 0..255: the product of both scans' transmissions."""
    out = np.empty((len(rows), *images_NHWC.shape[1:]), np.float32)
    for place, row in enumerate(rows):
        first, second = (
            orient(images_NHWC[source], int(orientation)).astype(np.float32)
            for source, orientation in zip(
                (plan.first_M[row], plan.second_M[row]), plan.orientations_M2[row], strict=True
            )
        )
        out[place] = first * second / 255
    return out


def orient(image_HWC: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return a scan mirrored: bit 0 left to right, bit 1 upside down."""
    return image_HWC[:: -1 if orientation & 2 else 1, :: -1 if orientation & 1 else 1]


def _from_many_bags(items: IntArray, bag_N: IntArray, count: int, random: np.random.Generator) -> IntArray:
    """Return `count` of the scans: one of each bag, then a second of each that has one, and so on."""
    items = random.permutation(items)
    turns = [int((bag_N[items[:place]] == bag_N[item]).sum()) for place, item in enumerate(items)]
    if len(items) < count:
        raise ValueError(f"scans with an item must be at least {count} in the training parts, got {len(items)}")
    return items[np.argsort(turns, kind="stable")][:count]


def _pair_clean(
    clean: IntArray, bag_N: IntArray, count: int, random: np.random.Generator
) -> list[tuple[np.int64, np.int64]]:
    """Return pairs of scans of two bags in random order; each pair comes once before any comes again."""
    pairs = [(one, other) for place, one in enumerate(clean) for other in clean[:place] if bag_N[one] != bag_N[other]]
    order = np.concatenate([random.permutation(len(pairs)) for _ in range(-(-count // len(pairs)))])[:count]
    swapped = random.random(count) < 0.5
    return [pairs[place][::-1] if swap else pairs[place] for place, swap in zip(order, swapped, strict=True)]
