"""Test differences between two models, and correct for the number of tests (Holm)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from model.metrics.uncertainty.intervals import LEVEL, MIN_UNITS, Interval, student_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A difference of two figures in [0, 1], and how certain it is."""

    value: float
    variance: float
    num_positive: float
    """Effective number; Student's t has one degree of freedom less."""

    @property
    def error(self) -> float:
        """Standard error; where no scan moves the difference, that of half a scan."""
        return float((self.variance or (0.5 / self.num_positive) ** 2) ** 0.5)


@dataclass(frozen=True, slots=True)
class Tested:
    """The interval of a difference, at the level at which it was tested, and its corrected p-value."""

    interval: Interval | None
    """It holds 0 exactly where `p_value` is above 0.05; None if scans are too few."""
    p_value: float | None


class MeanEstimate:
    """Adds up the influences of classes on the mean of their differences, which keeps what they have in common."""

    def __init__(self, num_groups: int) -> None:
        self._influences_G = np.zeros(num_groups)
        self._own = 0.0
        self._variances: list[float] = []
        self._degrees: list[float] = []

    def add(self, influences_G: npt.NDArray[np.float64], variance: float, num_positive: float) -> None:
        """Add a class: its influences, their variance and its effective number of positives."""
        self._influences_G += influences_G
        self._own += variance - float(np.square(influences_G).sum())
        self._variances.append(variance)
        self._degrees.append(max(num_positive, 1.0))

    def estimate(self, value: float) -> Estimate | None:
        """Return the estimate of the mean; None without classes, or with fewer than MIN_UNITS positives in all."""
        degrees_K = np.array(self._degrees)
        if degrees_K.sum() < MIN_UNITS:
            return None
        variances_K = np.array(self._variances)
        variance = (float(np.square(self._influences_G).sum()) + self._own) / len(degrees_K) ** 2
        # Welch and Satterthwaite: many classes with few positives each are as good as one with many.
        weight = float((variances_K**2 / degrees_K).sum())
        total = float(variances_K.sum()) ** 2 / weight if weight else float(degrees_K.sum())
        return Estimate(value=value, variance=max(variance, 0.0), num_positive=total)


def correct_differences(estimates: Sequence[Estimate | None], num_families: int = 1) -> list[Tested]:
    """Return the tests of a family of differences: in at most 5 % of cases any difference is found where none is.

    Args:
        estimates: of the family, for instance the classes; None for a difference that cannot be tested.
        num_families: of families that are tested together, for instance baselines.

    Source:
        Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    defined = [(k, of) for k, of in enumerate(estimates) if of is not None]
    p_values = {k: _p_value(of) for k, of in defined}
    tested = [Tested(None, None)] * len(estimates)
    corrected, divisor, is_open = 0.0, 0, False
    for place, (k, of) in enumerate(sorted(defined, key=lambda item: p_values[item[0]])):
        divisor = divisor if is_open else num_families * (len(defined) - place)
        corrected = max(corrected, min(num_families * (len(defined) - place) * p_values[k], 1.0))
        is_open = is_open or corrected > 1 - LEVEL  # tests after one that fails fail as well
        half = student_quantile(of.num_positive - 1, 1 - (1 - LEVEL) / divisor) * of.error
        tested[k] = Tested(Interval(max(of.value - half, -1.0), min(of.value + half, 1.0)), corrected)
    return tested


def _p_value(of: Estimate) -> float:
    return float(2 * special.stdtr(max(of.num_positive - 1, 1), -abs(of.value) / of.error))
