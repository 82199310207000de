"""Simulate how often the 95 % intervals of a report cover, and how often equal models are called different.

Splits of 200 bags with binormal scores, as many positives as named. `coverage.csv` has a row a figure and condition;
the measurements are the lowest and the highest coverage of each figure. Takes minutes on 2 cores.
"""

# N scans  K classes

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

from model.evaluation.alarm_plans import _find_interval
from model.evaluation.comparison import _compare_means, _compare_score, _correct, _Pair, _resample_recalls
from model.evaluation.uncertainty import Rated, _find_class_intervals, _Mean, share_interval
from model.metrics import ranking as metrics
from model.metrics.bags import apply_thresholds, make_bags
from model.metrics.guarantees import limit_false_alarms, limit_misses
from model.metrics.joint_thresholds import plan_jointly
from model.metrics.operating_points import RECALLS, rate_operation
from model.metrics.uncertainty.differences import MeanEstimate
from model.metrics.uncertainty.influence import find_influences
from model.metrics.uncertainty.intervals import Interval
from tests.bench.measure import Measurement

NUM_BAGS, NUM_SPLITS, NUM_PROMISES = 200, 600, 2000
POSITIVES, SEPARATIONS = (8, 10, 20, 40, 8), (1.5, 2.0, 2.5, 1.5, 3.0)
"""Of five classes."""
GRID = np.linspace(-8, 10, 6001)
TABLE = Path(__file__).with_name("coverage.csv")
Row = dict[str, Any]
Job = tuple[Callable[..., list[Row]], tuple[Any, ...]]
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
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=os.nice, initargs=(10,)) as pool:
        results = [pool.submit(function, *arguments) for function, arguments in list_jobs()]
        rows = [row for result in results for row in result.result()]
    write_table(rows)
    covered = defaultdict(list)
    for row in rows:
        covered[row["figure"]].append(float(row["covered"]))
    for figure, shares in covered.items():
        yield Measurement(f"{figure}, lowest", min(shares), "share", f"of {len(shares)} conditions; aim 0.93 to 0.97")
        yield Measurement(f"{figure}, highest", max(shares), "share")


def list_jobs() -> list[Job]:
    """Return the simulations, as functions with their arguments: each returns rows of the table."""
    jobs: list[Job] = [(simulate_class, (condition,)) for condition in CONDITIONS]
    jobs += [(simulate_means, (5, POSITIVES, SEPARATIONS, scores)) for scores in ("distinct", "series")]
    jobs += [(simulate_means, (100, (5,), (separation,))) for separation in (1.5, 2.5)]
    jobs += [(simulate_equal_models, (shared, scores)) for scores in ("distinct", "series") for shared in (0.5, 0.9)]
    jobs += [
        (simulate_alarms, (scores, num_clean, rate))
        for scores in ("distinct", "series")
        for num_clean, rate in ((200, 10), (200, 50), (1000, 10), (3000, 10))
    ]
    jobs += [(simulate_promises, (scores, size)) for scores in ("distinct", "rounded", "series") for size in (80, 500)]
    jobs += [(simulate_misses, (scores,)) for scores in ("distinct", "rounded", "series")]
    return jobs


def write_table(rows: list[Row]) -> None:
    """Write coverage.csv."""
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


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


def draw_bags(
    random: np.random.Generator, scores: str, labels_GK: npt.NDArray[np.int8], separations_K: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Return scores, labels and bags of scans of several classes; see `Condition.scores`."""
    num_bags = len(labels_GK)
    groups_N = np.repeat(np.arange(num_bags), random.integers(2, 9, num_bags) if scores == "series" else 1)
    of_bag_GK = random.normal(size=labels_GK.shape)
    if scores == "rounded":
        return np.round(2 * (of_bag_GK + separations_K * labels_GK)) / 2, labels_GK, groups_N
    noise_NK = of_bag_GK[groups_N]
    if scores == "series":
        noise_NK = np.sqrt(0.99) * noise_NK + 0.1 * random.normal(size=noise_NK.shape)
    return noise_NK + separations_K * labels_GK[groups_N], labels_GK[groups_N], groups_N


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


def simulate_means(
    num_classes: int, positives: tuple[int, ...], separations: tuple[float, ...], scores: str = "distinct"
) -> list[Row]:
    """Return the rows of the means over classes; every bag is of one class at most, as far as there are bags."""
    random, found = np.random.default_rng(8), defaultdict(list)
    of_class = [(positives[k % len(positives)], separations[k % len(separations)]) for k in range(num_classes)]
    labels_GK = label_bags([number for number, _ in of_class])
    num_bags, separations_K = len(labels_GK), np.array([separation for _, separation in of_class])
    classes = [Condition("distinct", separation, number) for number, separation in of_class]
    auc, share = float(np.mean([auc_of(of) for of in classes])), 0.8
    for _ in range(NUM_SPLITS if num_classes < 50 else NUM_SPLITS // 3):
        scores_NK, labels_NK, groups_N = draw_bags(random, scores, labels_GK, separations_K)
        truths = [average_precision_of(of, float(labels_NK[:, k].mean())) for k, of in enumerate(classes)]
        means = [_Mean(num_bags) for _ in range(3)]
        for k in range(num_classes):
            rated = rate_score(scores_NK[:, k], labels_NK[:, k])
            influences = find_influences(scores_NK[:, k], labels_NK[:, k], groups_N, num_bags)
            assert rated.average_precision is not None
            assert rated.roc_auc is not None
            means[0].add_average_precision(
                rated.average_precision, influences, metrics.debiased_average_precision(rated.ranking)
            )
            means[1].add_roc_auc(rated.roc_auc, influences)
            groups_S = groups_N[np.flatnonzero(labels_NK[:, k])]
            means[2].add_share((random.random(num_bags) < share)[groups_S], groups_S)
        for name, mean, truth in zip(
            ("average precision", "roc auc", "pointing accuracy"),
            means,
            (float(np.mean(truths)), auc, share),
            strict=True,
        ):
            interval = held(mean.interval())
            found[f"mean {name}"].append((interval.low <= truth <= interval.high, interval.high - interval.low))
    return table(f"{num_classes} classes, {scores}", separations[0], positives[0], found)


def label_bags(positives: Sequence[int], num_clean: int | None = None) -> npt.NDArray[np.int8]:
    """Return labels of bags, so many with each class, one after the other, and clean ones."""
    num_clean = max(NUM_BAGS - sum(positives), 100) if num_clean is None else num_clean
    of_bag = np.repeat(np.arange(len(positives)), positives)
    labels_GK = np.zeros((len(of_bag) + num_clean, len(positives)), np.int8)
    labels_GK[np.arange(len(of_bag)), of_bag] = 1
    return labels_GK


def simulate_equal_models(shared: float, scores: str = "distinct") -> list[Row]:
    """Return how often two models of equal quality, with a share of noise in common, are not called different."""
    random, found = np.random.default_rng(9), defaultdict(list)
    labels_GK, separations = label_bags(POSITIVES), np.array(SEPARATIONS)
    for _ in range(NUM_SPLITS):
        common_NK, labels_NK, groups_N = draw_bags(random, scores, labels_GK, separations / np.sqrt(shared))
        keys = np.arange(len(groups_N)).astype(str)
        new_NK, there_NK = (
            np.sqrt(shared) * common_NK + np.sqrt(1 - shared) * random.normal(size=labels_GK.shape)[groups_N]
            for _ in range(2)
        )
        pairs = [_Pair(labels_NK[:, k], new_NK[:, k], there_NK[:, k]) for k in range(5)]
        mean = MeanEstimate(len(labels_GK))
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
    return table(f"equal models, {shared} in common, {scores}", SEPARATIONS[0], POSITIVES[0], found)


def simulate_alarms(scores: str, num_clean: int, rate_1000: int) -> list[Row]:
    """Return how often the headline's interval covers the recall of thresholds that are chosen on a million bags, and
    that of its own thresholds on new bags: the choice of the thresholds is part of both.
    """
    random, found = np.random.default_rng(10), defaultdict(list)
    separations_K = np.array(SEPARATIONS)
    new = make_bags(*draw_bags(random, scores, label_bags([of * 120 for of in POSITIVES], 60_000), separations_K))
    best = plan_jointly(new, rate_1000).recall
    for _ in range(NUM_SPLITS):
        bags = make_bags(*draw_bags(random, scores, label_bags(POSITIVES, num_clean), separations_K))
        plan = plan_jointly(bags, rate_1000)
        interval = held(_find_interval(bags, plan, rate_1000))
        own = apply_thresholds(new, plan.thresholds_K).recall
        for what, truth in (("of the best thresholds", best), ("of its thresholds on new bags", own)):
            covered = truth is not None and interval.low <= truth <= interval.high
            found[f"caught at {rate_1000} per 1,000, {what}"].append((covered, interval.high - interval.low))
    return table(f"5 classes, {scores}, {num_clean} clean bags", SEPARATIONS[0], POSITIVES[0], found)


def simulate_promises(scores: str, num_clean: int) -> list[Row]:
    """Return how often thresholds of `sixray calibrate` keep 50 false alarms per 1,000 new bags; nominal 0.9."""
    random, found = np.random.default_rng(11), defaultdict(list)
    separations_K, rounds, limit = np.array([1.5, 2.5]), NUM_PROMISES if num_clean < 100 else NUM_SPLITS, 0.05
    new = make_bags(*draw_bags(random, scores, label_bags((1, 1), 60_000), separations_K))
    for _ in range(rounds):
        bags = make_bags(*draw_bags(random, scores, label_bags((20, 20), num_clean), separations_K))
        chosen = limit_false_alarms(bags, limit, 0.9, random.random(len(bags.is_clean_G)) < 1 / 3)
        plan = apply_thresholds(new, chosen.thresholds_K)
        found[f"promise of false alarms, {chosen.rule}"].append(
            (plan.num_false <= (limit + 0.002) * plan.num_clean, 0.0)
        )
    return _promised(table(f"2 classes, {scores}, {num_clean} clean bags", 1.5, 20, found))


def simulate_misses(scores: str) -> list[Row]:
    """Return how often thresholds of `sixray calibrate` keep the limits of misses of two classes together."""
    random, found = np.random.default_rng(12), defaultdict(list)
    separations_K, limits = np.array([1.5, 2.5]), {0: 0.1, 1: 0.2}
    new = make_bags(*draw_bags(random, scores, label_bags((30_000, 30_000), 1), separations_K))
    sorted_KP = [np.sort(new.logits_GK[new.present_GK[:, k], k]) for k in limits]
    for _ in range(NUM_PROMISES):
        bags = make_bags(*draw_bags(random, scores, label_bags((60, 60), 20), separations_K))
        thresholds_K = limit_misses(bags, limits, 0.9).thresholds_K
        missed = [np.searchsorted(sorted_KP[k], thresholds_K[k]) / len(sorted_KP[k]) for k in limits]
        is_kept = all(missed[k] <= limit + 0.002 for k, limit in limits.items())
        found["promise of misses, per_class"].append((is_kept, 0.0))
    return _promised(table(f"2 classes, {scores}", 1.5, 60, found))


def _promised(rows: list[Row]) -> list[Row]:
    return [row | {"nominal": 0.9, "mean_width": "", "zero_width_share": ""} for row in rows]


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
