"""Measure calibration of one class (reliability, expected calibration error, Brier score), and correct it."""

# N scans with a known label  B bins  C chunks of negatives

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics.ranking import Ranking

NUM_BINS = 15
NUM_CHUNKS = 4096
"""A Platt fit takes the negatives in this many chunks of neighbours, so that a million cost as little as thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """Distances of scores from the shares of positives."""

    expected_error: float | None
    """ECE: the mean distance between score and share over bins, weighted by their scans; None without scans."""
    brier: float | None
    """Mean squared distance between score and label; None without scans."""
    reference_brier: float | None
    """p (1 - p), that of a constant score, the prevalence p: a higher Brier score is worse than no model."""
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
        reference_brier=float(np.mean(present_N) * (1 - np.mean(present_N))) if known else None,
        num_scans_B=num_scans_B,
        mean_score_B=score_sum_B / divisor_B,
        positive_share_B=positive_B / divisor_B,
    )


@dataclass(frozen=True, slots=True)
class PlattScaling:
    """Probability of presence as a logistic function of the logit."""

    slope: float
    offset: float

    def apply(self, logits_N: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Return probabilities in (0, 1)."""
        exponents_N = np.clip(self.slope * logits_N.astype(np.float64) + self.offset, -700, 700)
        probabilities_N: npt.NDArray[np.float64] = 1 / (1 + np.exp(-exponents_N))
        return probabilities_N


def fit_platt(ranking: Ranking, num_steps: int = 50) -> PlattScaling:
    """Return the scaling that fits the scans of one class best; a rising one, or a constant where scores say nothing.

    Source:
        Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with his targets (P + 1) / (P + 2) and
        1 / (M + 2), which keep the fit finite where the classes are separable; Newton's method with halved steps after
        Lin, Lin and Weng, "A Note on Platt's Probabilistic Outputs" (2007).
    """
    num_positive, num_negative = ranking.num_positive, ranking.num_negative
    starts_C = np.unique(np.linspace(0, num_negative, NUM_CHUNKS, endpoint=False).astype(np.int64))
    starts_C = starts_C if num_negative else starts_C[:0]
    counts_C = np.diff(starts_C, append=num_negative)
    means_C = np.add.reduceat(ranking.negatives_M.astype(np.float64), starts_C) / counts_C if num_negative else counts_C
    x = np.concatenate([ranking.positives_P.astype(np.float64), means_C])
    weights = np.concatenate([np.ones(num_positive), counts_C])
    low, high = 1 / (num_negative + 2), (num_positive + 1) / (num_positive + 2)
    targets = np.concatenate([np.full(num_positive, high), np.full(len(means_C), low)])
    centre, spread = (float(x.mean()), float(x.std()) or 1.0) if len(x) else (0.0, 1.0)
    slope, offset = _newton((x - centre) / spread, targets, weights, num_steps)
    if slope <= 0:  # worse than chance: the order of the scores must not be turned round
        slope, offset = 0.0, float(np.log((num_positive + 1) / (num_negative + 1)))
    return PlattScaling(slope / spread, offset - slope * centre / spread)


def _newton(
    x: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], num_steps: int
) -> tuple[float, float]:
    design = np.stack([x, np.ones_like(x)])

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        z = parameters @ design
        return float(weights @ (np.logaddexp(0, z) - targets * z))

    present = float(weights @ targets)
    total = float(weights.sum())
    parameters = np.array([0.0, np.log((present + 0.5) / (total - present + 0.5))])
    best = loss(parameters)
    for _ in range(num_steps):
        p = 1 / (1 + np.exp(-np.clip(parameters @ design, -700, 700)))
        gradient = design @ (weights * (p - targets))
        curvature = (design * (weights * p * (1 - p))) @ design.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        scale = 1.0
        while scale > 1e-6 and (found := loss(parameters - scale * step)) > best:
            scale /= 2
        if scale <= 1e-6 or best - found < 1e-10 * max(best, 1):
            break
        parameters, best = parameters - scale * step, found
    return float(parameters[0]), float(parameters[1])
