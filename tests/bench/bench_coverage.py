"""Simulate how often the 95 % intervals of a report cover, and how often equal models are called different.

Splits of 200 bags with binormal scores, as many positives as named. `coverage.csv` has a row a figure and condition;
the measurements are the lowest and the highest coverage of each figure. Takes minutes on 2 cores.
"""

# N scans  K classes

import csv
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

from model.evaluation.comparison import _compare_means, _compare_score, _correct, _Pair, _resample_recalls
from model.evaluation.uncertainty import Rated, _find_class_intervals, _Mean, share_interval
from model.metrics import ranking as metrics
from model.metrics.differences import MeanEstimate
from model.metrics.influence import find_influences
from model.metrics.intervals import Interval
from model.metrics.operating_points import RECALLS, rate_operation
from tests.bench.measure import Measurement

NUM_BAGS, NUM_SPLITS = 200, 300
GRID = np.linspace(-8, 10, 6001)
TABLE = Path(__file__).with_name("coverage.csv")
Row = dict[str, Any]
Found = dict[str, list[tuple[bool, float]]]
"""By figure: whether the interval covered, and its width, in every split."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How splits are drawn."""

    scores: str
    """`distinct`, `rounded` to halves (ties), or `series`: each bag has 2 to 8 nearly equal scans."""
    separation: float
    """d' of the binormal scores."""
    num_positive: int


CONDITIONS = (
    *(Condition("distinct", d, p) for d in (1.5, 2.0, 2.5, 3.0) for p in (5, 8, 10, 20, 40)),
    *(Condition(kind, d, p) for kind in ("rounded", "series") for d in (1.5, 2.5) for p in (5, 8, 10, 20, 40)),
)


def run(scratch: Path) -> Iterator[Measurement]:
    """Write the table, and measure the lowest and the highest coverage of each figure."""
    del scratch
    jobs: list[tuple[Callable[..., list[Row]], tuple[Any, ...]]] = [
        (simulate_class, (condition,)) for condition in CONDITIONS
    ]
    jobs += [(simulate_means, (5, (8, 10, 20, 40, 8), (1.5, 2.0, 2.5, 1.5, 3.0)))]
    jobs += [(simulate_means, (100, (5,), (separation,))) for separation in (1.5, 2.5)]
    jobs += [(simulate_equal_models, (shared,)) for shared in (0.5, 0.9)]
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=os.nice, initargs=(10,)) as pool:
        results = [pool.submit(function, *arguments) for function, arguments in jobs]
        rows = [row for result in results for row in result.result()]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    covered = defaultdict(list)
    for row in rows:
        covered[row["figure"]].append(float(row["covered"]))
    for figure, shares in covered.items():
        yield Measurement(f"{figure}, lowest", min(shares), "share", f"of {len(shares)} conditions; aim 0.93 to 0.97")
        yield Measurement(f"{figure}, highest", max(shares), "share")


def simulate_class(condition: Condition) -> list[Row]:
    """Return the rows of the figures of one class."""
    random, found = np.random.default_rng([7, CONDITIONS.index(condition)]), defaultdict(list)
    for _ in range(NUM_SPLITS):
        scores_N, labels_N, groups_N = draw(random, condition)
        for figure, interval, truth in rate(condition, scores_N, labels_N, groups_N, random):
            found[figure].append((interval.low <= truth <= interval.high, interval.high - interval.low))
    return table(condition.scores, condition.separation, condition.num_positive, found)


def draw(
    random: np.random.Generator, condition: Condition
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Return scores, labels and groups of a split."""
    groups_N, labels_N = np.arange(NUM_BAGS), (np.arange(NUM_BAGS) < condition.num_positive).astype(np.int8)
    scores_N = random.normal(size=NUM_BAGS) + condition.separation * labels_N
    if condition.scores == "rounded":
        scores_N = np.round(2 * scores_N) / 2
    if condition.scores == "series":
        groups_N = np.repeat(groups_N, random.integers(2, 9, NUM_BAGS))
        labels_N, noise = labels_N[groups_N], random.normal(size=NUM_BAGS)[groups_N]
        scores_N = np.sqrt(0.99) * noise + 0.1 * random.normal(size=len(groups_N)) + condition.separation * labels_N
    return scores_N, labels_N, groups_N


def rate(
    condition: Condition,
    scores_N: npt.NDArray[np.float64],
    labels_N: npt.NDArray[np.int8],
    groups_N: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> Iterator[tuple[str, Interval, float]]:
    """Yield figure, interval and truth."""
    rated = rate_score(scores_N, labels_N)
    influences = find_influences(scores_N, labels_N, groups_N, NUM_BAGS)
    found = _find_class_intervals(_Groups(groups_N), rated, influences, None)  # type: ignore[arg-type]
    shift = 0.25 if condition.scores == "rounded" else 0.0
    hits_T, false_T = norm.sf(GRID - condition.separation), norm.sf(GRID)
    prevalence = float(labels_N.mean())
    yield "average precision", held(found.average_precision), average_precision_of(condition, prevalence)
    yield "roc auc", held(found.roc_auc), auc_of(condition)
    yield "brier", held(found.brier), brier_of(condition, prevalence)
    for rate_1000, point in rated.operation.at_false_alarms.items():
        if condition.scores != "rounded":
            truth = float(np.interp(rate_1000 / 1000, false_T[::-1], hits_T[::-1]))
            yield f"recall at {rate_1000} per 1,000", held(found.recall_at_false_alarms[rate_1000]), truth
        truth = 1000 * float(norm.sf(point.threshold - shift)) if point.threshold is not None else 0.0
        yield f"false alarms at {rate_1000} per 1,000", held(found.false_alarms_at_false_alarms[rate_1000]), truth
    for recall in RECALLS if condition.scores != "rounded" else ():
        truth = 1000 * float(np.interp(recall, hits_T[::-1], false_T[::-1]))
        yield f"false alarms at recall {recall}", held(found.false_alarms_at_recall[recall]), truth
    # A share of 0.6 to 0.95, another one in every split: for one share of few scans, coverage jumps with its outcomes.
    share = random.uniform(0.6, 0.95)
    positive_S = np.flatnonzero(labels_N == 1)
    is_hit_S = (random.random(NUM_BAGS) < share)[groups_N[positive_S]]
    yield "pointing accuracy", held(share_interval(is_hit_S, groups_N[positive_S])), share


def rate_score(scores_N: npt.NDArray[np.float64], labels_N: npt.NDArray[np.int8]) -> Rated:
    """Return a score with its figures."""
    ranking = metrics.rank(scores_N, labels_N)
    curve = metrics.trace_curve(ranking)
    return Rated(
        scores_N=scores_N,  # type: ignore[arg-type]
        labels_N=labels_N,
        ranking=ranking,
        operation=rate_operation(curve),
        average_precision=metrics.average_precision(curve),
        roc_auc=metrics.roc_auc(ranking),
    )


@dataclass(frozen=True, slots=True)
class _Groups:
    """Stands for the scans: only their groups are read."""

    groups_N: npt.NDArray[np.int64]


def held(interval: Interval | None) -> Interval:
    """Return an interval that must be there."""
    assert interval is not None
    return interval


def average_precision_of(condition: Condition, prevalence: float) -> float:
    """Return the average precision of all scans of this kind."""
    grid_T = np.arange(-8, 12, 0.5) - 0.25 if condition.scores == "rounded" else GRID
    hits_T, false_T = norm.sf(grid_T - condition.separation), norm.sf(grid_T)
    precision_T = prevalence * hits_T / np.maximum(prevalence * hits_T + (1 - prevalence) * false_T, 1e-300)
    mass_T = -np.diff(hits_T, append=0.0)
    if condition.scores == "rounded":
        return float(mass_T @ precision_T)
    return float(mass_T[:-1] @ (precision_T[1:] + precision_T[:-1]) / 2)


def auc_of(condition: Condition) -> float:
    """Return the area under the ROC curve of all scans of this kind."""
    if condition.scores != "rounded":
        return float(norm.cdf(condition.separation / np.sqrt(2)))
    edges_T = np.arange(-8, 12, 0.5) - 0.25
    hits_T, false_T = norm.sf(edges_T - condition.separation), norm.sf(edges_T)
    return float(-np.diff(hits_T, append=0.0) @ (1 - false_T - np.diff(false_T, append=0.0) / 2))


def brier_of(condition: Condition, prevalence: float) -> float:
    """Return the Brier score of all scans of this kind, with sigmoid(score) as the probability."""
    sides = []
    for label in (0, 1):
        values_T, mean = GRID, condition.separation * label
        if condition.scores == "rounded":
            values_T = np.arange(-8, 12, 0.5)
            mass_T = norm.cdf(values_T + 0.25 - mean) - norm.cdf(values_T - 0.25 - mean)
        else:
            mass_T = norm.pdf(values_T - mean) * (GRID[1] - GRID[0])
        sides.append(float(mass_T @ (expit(values_T) - label) ** 2))
    return (1 - prevalence) * sides[0] + prevalence * sides[1]


def simulate_means(num_classes: int, positives: tuple[int, ...], separations: tuple[float, ...]) -> list[Row]:
    """Return the rows of the means over classes; every scan is of one class at most, as far as there are scans."""
    random, found = np.random.default_rng(8), defaultdict(list)
    of_class = [(positives[k % len(positives)], separations[k % len(separations)]) for k in range(num_classes)]
    num_scans = max(NUM_BAGS, sum(number for number, _ in of_class) + 100)
    starts = np.cumsum([0, *(number for number, _ in of_class)])
    labels_NK = np.zeros((num_scans, num_classes), np.int8)
    for k, (number, _) in enumerate(of_class):
        labels_NK[starts[k] : starts[k] + number, k] = 1
    classes = [Condition("distinct", separation, number) for number, separation in of_class]
    precision = float(np.mean([average_precision_of(of, of.num_positive / num_scans) for of in classes]))
    auc = float(np.mean([auc_of(of) for of in classes]))
    groups_N, share = np.arange(num_scans), 0.8
    for _ in range(NUM_SPLITS if num_classes < 50 else NUM_SPLITS // 3):
        means = [_Mean(num_scans) for _ in range(3)]
        for k, of in enumerate(classes):
            scores_N = random.normal(size=num_scans) + of.separation * labels_NK[:, k]
            rated = rate_score(scores_N, labels_NK[:, k])
            influences = find_influences(scores_N, labels_NK[:, k], groups_N, num_scans)
            assert rated.average_precision is not None
            assert rated.roc_auc is not None
            means[0].add_average_precision(
                rated.average_precision, influences, metrics.debiased_average_precision(rated.ranking)
            )
            means[1].add_roc_auc(rated.roc_auc, influences)
            means[2].add_share(random.random(of.num_positive) < share, np.flatnonzero(labels_NK[:, k]))
        for name, mean, truth in zip(
            ("average precision", "roc auc", "pointing accuracy"), means, (precision, auc, share), strict=True
        ):
            interval = held(mean.interval())
            found[f"mean {name}"].append((interval.low <= truth <= interval.high, interval.high - interval.low))
    return table(f"{num_classes} classes", separations[0], positives[0], found)


def simulate_equal_models(shared: float) -> list[Row]:
    """Return how often two models of equal quality, with a share of noise in common, are not called different."""
    random, found = np.random.default_rng(9), defaultdict(list)
    positives, separations = (8, 10, 20, 40, 8), np.array([1.5, 2.0, 2.5, 1.5, 3.0])
    starts = np.cumsum([0, *positives])
    bags = np.arange(NUM_BAGS)
    labels_NK = np.stack([(bags >= first) & (bags < last) for first, last in itertools.pairwise(starts)], axis=1)
    labels_NK = labels_NK.astype(np.int8)
    groups_N, keys = np.arange(NUM_BAGS), np.arange(NUM_BAGS).astype(str)
    for _ in range(NUM_SPLITS):
        common_NK = np.sqrt(shared) * random.normal(size=labels_NK.shape) + separations * labels_NK
        new_NK, there_NK = (common_NK + np.sqrt(1 - shared) * random.normal(size=labels_NK.shape) for _ in range(2))
        pairs = [_Pair(labels_NK[:, k], new_NK[:, k], there_NK[:, k]) for k in range(5)]
        mean = MeanEstimate(NUM_BAGS)
        variances = _resample_recalls(pairs, groups_N, 200)
        compared = [_compare_score(pair, groups_N, keys, of, mean) for pair, of in zip(pairs, variances, strict=True)]
        classes = _correct(compared, 1)
        for figure in ("average_precision", "roc_auc", "recall"):
            differences = [getattr(of, figure) for of in classes]
            width = float(np.mean([of.interval.high - of.interval.low for of in differences]))
            found[f"difference in {figure.replace('_', ' ')}, all classes"].append(
                (all(of.verdict == "open" for of in differences), width)
            )
        difference = _compare_means(compared, mean, 1)
        interval = held(difference.interval)
        found["difference in mean average precision"].append(
            (difference.verdict == "open", interval.high - interval.low)
        )
    return table(f"equal models, {shared} in common", separations[0], positives[0], found)


def table(scores: str, separation: float, num_positive: int, found: Found) -> list[Row]:
    """Return a row a figure."""
    return [
        {
            "figure": figure,
            "scores": scores,
            "d_prime": separation,
            "num_positive": num_positive,
            "num_splits": len(of),
            "nominal": 0.95,
            "covered": round(float(np.mean([covered for covered, _ in of])), 4),
            "mean_width": round(float(np.mean([width for _, width in of])), 4),
            "zero_width_share": round(float(np.mean([width == 0 for _, width in of])), 4),
        }
        for figure, of in found.items()
    ]
