"""Find the scans on which the alarms of two models differ, each at its own threshold."""

# N scans

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics.operating_points import OperatingPoint
from shards.format.classes import ABSENT, PRESENT

NUM_KEYS = 12
"""Scans that are named of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSides:
    """Scans on which the alarms of the two models differ, each at its own threshold."""

    num_newly_caught: int
    num_newly_missed: int
    num_newly_alarmed: int
    """Scans without the item that only the new model alarms for."""
    num_newly_quiet: int
    newly_missed_keys: tuple[str, ...]
    """The first few, the largest fall of the logit first."""
    newly_alarmed_keys: tuple[str, ...]


def find_changed_sides(
    labels_N: npt.NDArray[np.int8],
    logits: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]],
    points: tuple[OperatingPoint | None, OperatingPoint | None],
    keys: npt.NDArray[Any],
) -> ChangedSides | None:
    """Return on which scans the alarms of two models differ; None without a threshold of either.

    Args:
        labels_N: 1 present, 0 absent; other scans count for nothing.
        logits: of the new model and of the baseline, (N,) each.
        points: their thresholds.
        keys: of the scans.
    """
    new, baseline = points
    if new is None or baseline is None:
        return None
    new_N, baseline_N = logits
    now_N, before_N = _alarms(new_N, new), _alarms(baseline_N, baseline)
    present_N, absent_N = labels_N == PRESENT, labels_N == ABSENT
    gain_N = new_N.astype(np.float64) - baseline_N
    missed, alarmed = np.flatnonzero(present_N & before_N & ~now_N), np.flatnonzero(absent_N & now_N & ~before_N)
    return ChangedSides(
        num_newly_caught=int((present_N & now_N & ~before_N).sum()),
        num_newly_missed=len(missed),
        num_newly_alarmed=len(alarmed),
        num_newly_quiet=int((absent_N & before_N & ~now_N).sum()),
        newly_missed_keys=tuple(keys[missed[np.argsort(gain_N[missed], kind="stable")][:NUM_KEYS]]),
        newly_alarmed_keys=tuple(keys[alarmed[np.argsort(-gain_N[alarmed], kind="stable")][:NUM_KEYS]]),
    )


def _alarms(logits_N: npt.NDArray[np.floating[Any]], point: OperatingPoint) -> npt.NDArray[np.bool_]:
    never = point.threshold is None
    return np.zeros(len(logits_N), bool) if never else logits_N >= logits_N.dtype.type(point.threshold)
