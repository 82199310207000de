"""Simulate years of nights: how often unchanged ones show a change, and how soon a change is found. No timing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import norm

from model.metrics.drift import EDGES, log_wealth
from model.monitoring.observations import Observations, add_alarms
from model.monitoring.record import Document, add_night, list_changed, start_record
from tests.bench.measure import Measurement

NUM_YEARS, NUM_NIGHTS, NUM_DRAWS = 400, 365, 20
NUM_RECORDS, NUM_BAGS = 40, 40
"""Years that are kept by the functions of `sixray drift` themselves, and bags of a night in them."""
THRESHOLDS = np.array([1.5, 2.0])
NUM_SERIES = 20
"""Series of a record, which share its alpha of 0.01."""
WIDTHS = np.diff(EDGES)
PLACES = norm.ppf(EDGES)
CHANGES = {
    "scores 0.1 standard deviations higher": np.diff(norm.cdf(PLACES - 0.1)),
    "scores 0.2 standard deviations higher": np.diff(norm.cdf(PLACES - 0.2)),
    "scores 0.5 standard deviations higher": np.diff(norm.cdf(PLACES - 0.5)),
    "scores spread by 1.1": np.diff(norm.cdf(PLACES / 1.1)),
    "scores spread by 1.5": np.diff(norm.cdf(PLACES / 1.5)),
}


def run(scratch: Path) -> Iterator[Measurement]:
    """Yield the share of unchanged years with a change, by alpha, and the median nights until a change is found."""
    rng = np.random.default_rng(0)
    highest = np.array([_highest(rng.multinomial(500, WIDTHS, size=NUM_NIGHTS)) for _ in range(NUM_YEARS)])
    for alpha in (0.2, 0.1, 0.05, 0.01):
        share = float((highest >= np.log(1 / alpha)).mean())
        beside = f"at most {alpha}; {NUM_YEARS} years of {NUM_NIGHTS} nights of 500"
        yield Measurement(f"unchanged years that show a change, alpha {alpha}", share, "share", beside)
    records = [watch_year(seed) for seed in range(NUM_RECORDS)]
    for alpha in (0.5, 0.2, 0.1, 0.01):
        share = float(np.mean([bool(list_changed({**record, "alpha": alpha})) for record in records]))
        beside = f"at most {alpha}; {NUM_RECORDS} years of {NUM_NIGHTS} nights of {NUM_BAGS} bags, whole records"
        yield Measurement(f"unchanged years whose record shows a change, alpha {alpha}", share, "share", beside)
    for quiet in (5, NUM_NIGHTS - 1):
        for name, changed in CHANGES.items():
            found = [_nights(rng, WIDTHS, changed, 500, quiet) for _ in range(NUM_DRAWS)]
            yield _measure(name, found, quiet, "nights of 500")
        for before, after in ((0.01, 0.02), (0.001, 0.003)):
            found = [_nights(rng, WIDTHS, _share(before, after), 5000, quiet) for _ in range(NUM_DRAWS)]
            yield _measure(f"a share of {before} becomes {after}", found, quiet, "nights of 5,000")


def watch_year(seed: int, num_nights: int = NUM_NIGHTS, shift_from: int | None = None) -> Document:
    """Return the record of a year of nights that are drawn alike: scores with ties, alarms, quarantine, brightness.

    Args:
        seed: of the bags.
        num_nights: that follow the reference.
        shift_from: night from which on scores are one standard deviation higher.
    """
    rng = np.random.default_rng([3, seed])
    identity = {"model_id": "m", "alpha": 0.2, "by": None, "classes": ["Gun", "Knife"]}
    document, sample = start_record(_draw_night(rng, 5 * NUM_BAGS), identity, THRESHOLDS, None)
    history = [sample]
    for number in range(num_nights):
        night = _draw_night(rng, NUM_BAGS, 0.0 if shift_from is None or number < shift_from else 1.0)
        history.append(add_night(document, history, night, {}))
    return document


def _draw_night(rng: np.random.Generator, num: int, shift: float = 0.0) -> Observations:
    logits_GK = (rng.normal(size=(num, 2)) + shift).round(1)
    streams = {"score.Gun": logits_GK[:, 0], "score.Knife": logits_GK[:, 1], "image.brightness": rng.random(num)}
    streams["quarantine"] = (rng.random(num) < 0.02).astype(float)
    return add_alarms(Observations(streams, None, logits_GK, ()), THRESHOLDS)


def _measure(name: str, found: list[int], quiet: int, nights: str) -> Measurement:
    beside = f"at most {max(found)} in {NUM_DRAWS} draws; after {quiet} quiet nights, {nights}, {NUM_SERIES} series"
    return Measurement(f"{name}: found within", float(np.median(found)), "nights", beside)


def _highest(counts_TB: np.ndarray) -> float:
    return max(log_wealth(counts_TB[: night + 1]) for night in range(len(counts_TB)))


def _nights(rng: np.random.Generator, before: np.ndarray, after: np.ndarray, num: int, quiet: int) -> int:
    """Return the nights until a change is found; at most 60."""
    counts_TB = np.vstack([rng.multinomial(num, before, size=quiet), rng.multinomial(num, after, size=60)])
    for night in range(1, 60):
        if log_wealth(counts_TB[: quiet + night]) >= np.log(NUM_SERIES / 0.01):
            return night
    return 60


def _share(before: float, after: float) -> np.ndarray:
    """Return the shares of ranks of zeros and ones, of which more are ones than before."""
    below = np.clip(np.minimum(EDGES[1:], 1 - before) - EDGES[:-1], 0, None)
    above = np.clip(EDGES[1:] - np.maximum(EDGES[:-1], 1 - before), 0, None)
    return np.asarray(below / (1 - before) * (1 - after) + above / before * after)
