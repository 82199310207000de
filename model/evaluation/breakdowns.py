"""Break figures down by item size, number of items, image size, clutter and metadata; count misses and confusions."""

# N scans  B boxes

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.evaluation.uncertainty import per_1000, share_interval
from model.metrics import ranking as metrics
from model.metrics.bags import NEVER
from model.metrics.ranking import Ranking
from model.metrics.uncertainty.intervals import Interval
from shards.format.classes import ABSENT, PRESENT

BoolArray = npt.NDArray[np.bool_]

BOX_SHARE_EDGES = (0.0, 0.02, 0.05, 0.10, np.inf)
"""Approximate quartiles of the boxes in SIXray: the median item covers 5 % of its image."""
MEGAPIXEL_EDGES = (0.0, 0.25, 0.5, np.inf)
QUARTILES = (0.25, 0.5, 0.75)

MAX_VALUES = 8
"""A column of metadata has at most this many breakdowns, and one more for all other values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Figures of one class over part of the scans."""

    name: str
    num_positive: int
    num_negative: int
    average_precision: float | None
    """Depends on the ratio of positives to negatives: compare breakdowns by the other figures."""
    roc_auc: float | None
    recall: float | None
    """At the threshold of the whole split; None without one or without positives."""
    recall_interval: Interval | None
    """None if bags are too few, or no intervals were asked for."""
    num_false: int | None
    """False alarms at the same threshold; None without one, or where the breakdown has no negatives of its own."""
    false_alarms_per_1000: float | None
    false_alarms_interval: Interval | None
    """Per 1,000; None if bags are too few, or no intervals were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBreakdowns:
    """Figures of one class by properties of its scans."""

    by_box_size: tuple[Breakdown, ...]
    """By the class' largest box in the scan, as a share of the image; every breakdown keeps all negatives."""
    by_num_items: tuple[Breakdown, ...]
    """By the labelled items of any class in the scan; every breakdown keeps all negatives."""
    by_image_size: tuple[Breakdown, ...]
    """By the pixels of the scan; a breakdown has its own negatives."""
    by_clutter: tuple[Breakdown, ...]
    """By the entropy of the scan's grey values; with its own negatives. Empty where no entropy was written."""
    by_metadata: dict[str, tuple[Breakdown, ...]]
    """By each column of the dataset's metadata that has several values; a breakdown has its own negatives."""


Band = tuple[str, BoolArray]
"""A name, and which scans it stands for."""


@dataclass(frozen=True, slots=True)
class ScanBands:
    """Parts of the scans that are the same for every class."""

    num_items: list[Band]
    image_size: list[Band]
    clutter: list[Band]
    metadata: dict[str, list[Band]]


def find_bands(scans: ScoredScans) -> ScanBands:
    """Return the parts of the scans by number of items, image size, clutter and metadata."""
    megapixels_N = scans.sizes_N2.prod(axis=1, dtype=np.int64) / 1e6
    metadata = {}
    if scans.metadata_N is not None:
        for field, values in zip(scans.metadata_N.type, scans.metadata_N.flatten(), strict=True):
            metadata[field.name] = _value_bands(values)
    return ScanBands(
        num_items=_counts(scans),
        image_size=_bands(megapixels_N, MEGAPIXEL_EDGES, 1, "MP"),
        clutter=_quarters(scans.entropy_bits_N, "bits"),
        metadata={name: bands for name, bands in metadata.items() if len(bands) > 1},
    )


def rate_breakdowns(
    scans: ScoredScans, k: int, bands: ScanBands, threshold: float, has_intervals: bool = True
) -> ClassBreakdowns:
    """Return the breakdowns of class `k`.

    Args:
        scans: of one split.
        k: index of the class.
        bands: of `find_bands`.
        threshold: logit, of recall and false alarms; NEVER if the class has none.
        has_intervals: whether to compute intervals.
    """
    scores_N, labels_N = scans.column(k)
    negatives_M = metrics.rank(scores_N, labels_N).negatives_M

    def rate(named: list[Band], keep_negatives: bool) -> tuple[Breakdown, ...]:
        found = []
        for name, within_N in named:
            ranking = metrics.rank(scores_N[within_N], labels_N[within_N])
            if keep_negatives:
                # Negatives have no box of the class, so every breakdown has all of them.
                ranking = replace(ranking, negatives_M=negatives_M)
            intervals: list[Interval | None] = []
            for label in (PRESENT, ABSENT):
                rows = np.flatnonzero(within_N & (labels_N == label))
                is_rated = (
                    has_intervals and threshold < NEVER and len(rows) and not (keep_negatives and label == ABSENT)
                )
                hits = scores_N[rows] >= threshold
                intervals.append(share_interval(hits, scans.groups_N[rows]) if is_rated else None)
            found.append(_rate(name, ranking, threshold, intervals, not keep_negatives))
        return tuple(found)

    return ClassBreakdowns(
        by_box_size=rate(_bands(_largest_box_share(scans, k), BOX_SHARE_EDGES, 100, "%"), True),
        by_num_items=rate(bands.num_items, True),
        by_image_size=rate(bands.image_size, False),
        by_clutter=rate(bands.clutter, False),
        by_metadata={name: rate(of, False) for name, of in bands.metadata.items()},
    )


def _rate(
    name: str,
    ranking: Ranking,
    threshold: float,
    intervals: Sequence[Interval | None],
    has_own_negatives: bool,
) -> Breakdown:
    recall_interval, false_share = intervals
    at, has_threshold = np.array([threshold]), threshold < NEVER
    num_true, num_false = int(ranking.num_true(at)[0]), int(ranking.num_false(at)[0])
    has_false_alarms = has_threshold and has_own_negatives and ranking.num_negative > 0
    return Breakdown(
        name=name,
        num_positive=ranking.num_positive,
        num_negative=ranking.num_negative,
        average_precision=metrics.average_precision(metrics.trace_curve(ranking)),
        roc_auc=metrics.roc_auc(ranking),
        recall=num_true / ranking.num_positive if has_threshold and ranking.num_positive else None,
        recall_interval=recall_interval,
        num_false=num_false if has_false_alarms else None,
        false_alarms_per_1000=1000 * num_false / ranking.num_negative if has_false_alarms else None,
        false_alarms_interval=per_1000(false_share) if false_share else None,
    )


def _value_bands(values_N: pa.Array) -> list[Band]:
    """Return the bands of a column of metadata: its values, quarters of many numbers, months or years of many days.

    A column with a value for nearly every scan, such as a serial number, has none.
    """
    if pa.types.is_timestamp(values_N.type):
        values_N = values_N.cast(pa.date32(), safe=False)
    known = values_N.drop_null()
    num_values = pc.count_distinct(known).as_py()
    if num_values > MAX_VALUES and (pa.types.is_integer(values_N.type) or pa.types.is_floating(values_N.type)):
        return _quarters(values_N.cast(pa.float64()).to_numpy(zero_copy_only=False))  # null becomes NaN
    if pa.types.is_date(values_N.type):
        for pattern in ("%Y-%m-%d", "%Y-%m", "%Y"):
            words_N = pc.strftime(values_N, format=pattern)
            if pc.count_distinct(words_N.drop_null()).as_py() <= MAX_VALUES:
                break
        return _word_bands(words_N)
    if pa.types.is_string(values_N.type) and num_values > max(len(known) / 2, MAX_VALUES):
        return []
    return _word_bands(values_N.cast(pa.string()))


def _quarters(values_N: npt.NDArray[np.floating[Any]], unit: str = "") -> list[Band]:
    """Return the quarters of numbers, NaN where unknown; none if all are."""
    known = values_N[np.isfinite(values_N)]
    if not len(known):
        return []
    edges = sorted({float(f"{edge:.3g}") for edge in np.quantile(known, QUARTILES)})
    return _bands(values_N, (-np.inf, *edges, np.inf), 1, unit)


def _word_bands(words_N: pa.Array) -> list[Band]:
    """Return a band for each of the most frequent words, in alphabetical order, and one for all others."""
    counted = sorted(pc.value_counts(words_N.drop_null()).to_pylist(), key=lambda of: (-of["counts"], of["values"]))
    kept = [of["values"] for of in counted[:MAX_VALUES]]
    bands = [(word, _is_in(words_N, [word])) for word in sorted(kept)]
    if others := [of["values"] for of in counted[MAX_VALUES:]]:
        bands.append((f"{len(others)} others", _is_in(words_N, others)))
    if words_N.null_count:
        bands.append(("unknown", words_N.is_null().to_numpy(zero_copy_only=False)))
    return bands


def _is_in(words_N: pa.Array, words: list[str]) -> BoolArray:
    found: BoolArray = pc.is_in(words_N, value_set=pa.array(words, pa.string())).to_numpy(zero_copy_only=False)
    return found


def _largest_box_share(scans: ScoredScans, k: int) -> npt.NDArray[np.float64]:
    """Return the largest box of class `k` in each scan as a share of the image; NaN without one."""
    of_class_B = scans.box_class_B == k
    edges_B4 = scans.box_edges_B4[of_class_B].astype(np.float64)
    scan_B = scans.box_scan_B[of_class_B]
    area_B = (edges_B4[:, 2] - edges_B4[:, 0]) * (edges_B4[:, 3] - edges_B4[:, 1])
    share_N = np.full(len(scans.labels_NK), -np.inf)
    np.maximum.at(share_N, scan_B, area_B / scans.sizes_N2[scan_B].prod(axis=1, dtype=np.int64))
    return np.where(np.isfinite(share_N), share_N, np.nan)


def _bands(values_N: npt.NDArray[np.floating[Any]], edges: tuple[float, ...], scale: float, unit: str) -> list[Band]:
    named = []
    for low, high in itertools.pairwise(edges):
        if high == np.inf:
            name = f"from {scale * low:g} {unit}".rstrip()
        elif low in (0, -np.inf):
            name = f"below {scale * high:g} {unit}".rstrip()
        else:
            name = f"{scale * low:g}–{scale * high:g} {unit}".rstrip()
        named.append((name, (values_N >= low) & (values_N < high)))
    return named


def _counts(scans: ScoredScans) -> list[Band]:
    known_B = scans.box_class_B >= 0
    items_N = np.bincount(scans.box_scan_B[known_B], minlength=len(scans.labels_NK))
    return [("1 item", items_N == 1), ("2 items", items_N == 2), ("3 or more", items_N >= 3)]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Misses and confusions, at one threshold a class."""

    num_missed_K: npt.NDArray[np.int64]
    """Scans that hold class i and raise no alarm for it."""
    num_confused_KK: npt.NDArray[np.int64]
    """Of these, scans that raise a false alarm for class j instead; shape (0, 0) if not asked for."""


def count_mistakes(scans: ScoredScans, thresholds_K: npt.NDArray[np.float64], by_pair: bool = True) -> Mistakes:
    """Return the misses of each class at its threshold (a logit) and, `by_pair`, its confusions with each other."""
    alarm_NK = scans.logits_NK >= thresholds_K
    missed_NK = (scans.labels_NK == PRESENT) & ~alarm_NK & (scans.logits_NK != UNSCORED)
    if not by_pair:
        return Mistakes(missed_NK.sum(axis=0), np.zeros((0, 0), np.int64))
    false_NK = (scans.labels_NK == ABSENT) & alarm_NK
    wrong = missed_NK.any(axis=1)
    confused_KK = missed_NK[wrong].T.astype(np.int64) @ false_NK[wrong].astype(np.int64)
    return Mistakes(missed_NK.sum(axis=0), confused_KK)
