"""Take confidence intervals from bootstrap rounds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of the middle 95 % of the rounds (percentile method)."""

    low: float
    high: float


def percentile_interval(values_R: npt.NDArray[np.float64]) -> Interval | None:
    """Return the middle 95 % of the rounds in which a figure was defined; None if it never was."""
    defined_R = values_R[np.isfinite(values_R)]
    if not len(defined_R):
        return None
    low, high = np.quantile(defined_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
