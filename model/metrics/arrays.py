"""Compute metrics of every class at once from arrays of scores and labels.

Shapes: N scans  K classes
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics import ranking
from model.metrics.ranking import Ranking

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]


def average_precision(scores_NK: FloatArray, labels_NK: IntArray) -> npt.NDArray[np.float64]:
    """Return the non-interpolated average precision of each class; see `model.metrics.ranking.average_precision`.

    Args:
        scores_NK: higher means more likely present; any monotone scale.
        labels_NK: 1 present, 0 absent, -1 unknown.

    Returns:
        (K,), in [0, 1]; NaN for a class without positives.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is another number.
    """
    return _by_class(scores_NK, labels_NK, lambda ranks: ranking.average_precision(ranking.trace_curve(ranks)))


def roc_auc(scores_NK: FloatArray, labels_NK: IntArray) -> npt.NDArray[np.float64]:
    """Return the area under the ROC curve of each class; NaN without positives or without negatives.

    Takes and raises the same as `average_precision`.
    """
    return _by_class(scores_NK, labels_NK, ranking.roc_auc)


def _by_class(
    scores_NK: FloatArray, labels_NK: IntArray, metric: Callable[[Ranking], float | None]
) -> npt.NDArray[np.float64]:
    if scores_NK.shape != labels_NK.shape or scores_NK.ndim != 2:
        raise ValueError(
            f"scores and labels must be of one shape (scans, classes), got {scores_NK.shape} and {labels_NK.shape}"
        )
    ranks = (ranking.rank(scores_N, labels_N) for scores_N, labels_N in zip(scores_NK.T, labels_NK.T, strict=True))
    return np.array([metric(each) for each in ranks], np.float64)  # None becomes NaN
