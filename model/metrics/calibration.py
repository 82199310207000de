"""Measure calibration of one class: reliability, expected calibration error and Brier score."""

# N scans with a known label  B bins

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """Distances of scores from the shares of positives."""

    expected_error: float | None
    """ECE: the mean distance between score and share over bins, weighted by their scans; None without scans."""
    brier: float | None
    """Mean squared distance between score and label; None without scans."""
    num_scans_B: npt.NDArray[np.int64]
    """Scans in each of the bins of equal width from 0 to 1."""
    mean_score_B: npt.NDArray[np.float64]
    """NaN in an empty bin."""
    positive_share_B: npt.NDArray[np.float64]
    """NaN in an empty bin."""


def rate_calibration(
    scores_N: npt.NDArray[np.floating[Any]], present_N: npt.NDArray[np.bool_], num_bins: int = NUM_BINS
) -> CalibrationFigures:
    """Return the calibration of one class.

    Args:
        scores_N: in [0, 1], sigmoid(logits) of the scans with a known label.
        present_N: whether the class is present.
        num_bins: bins of equal width; a score on an edge belongs to the upper bin, 1 to the last.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), Section 2, with the score of presence
        as the confidence; Brier, "Verification of forecasts expressed in terms of probability" (1950), two classes.
    """
    bin_N = np.minimum((scores_N * num_bins).astype(np.int64), num_bins - 1)
    num_scans_B = np.bincount(bin_N, minlength=num_bins)
    score_sum_B = np.bincount(bin_N, weights=scores_N, minlength=num_bins)
    positive_B = np.bincount(bin_N, weights=present_N, minlength=num_bins)
    divisor_B = np.where(num_scans_B > 0, num_scans_B, np.nan)
    known = len(scores_N)
    return CalibrationFigures(
        expected_error=float(np.abs(score_sum_B - positive_B).sum() / known) if known else None,
        brier=float(np.mean((scores_N - present_N) ** 2)) if known else None,
        num_scans_B=num_scans_B,
        mean_score_B=score_sum_B / divisor_B,
        positive_share_B=positive_B / divisor_B,
    )
