"""List figures of a class: each entry is a key of metrics.json and a column of classes.csv and of the page."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from model.metrics.ranking import Curve


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """One figure: what it is called, what it means, and how it is computed."""

    label: str
    """Head of its column on the page."""
    definition: str
    """For readers of the page, in a sentence."""
    compute: Callable[[Curve], float | None]
    """In [0, 1]; None where it is undefined, as for a class without positives."""


def recall_at_precision(curve: Curve, precision: float) -> float | None:
    """Return the highest recall of all thresholds with at least `precision`, in [0, 1]; 0 if there is none.

    None for a class without positives.

    Source:
        Equal to torchmetrics' `BinaryRecallAtFixedPrecision`.
    """
    if not curve.num_positive:
        return None
    return float(np.max(curve.recall_T, where=curve.precision_T >= precision, initial=0.0))


CLASS_FIGURES = {
    "recall_at_precision_90": ClassFigure(
        "Recall at precision 0.9",
        "The highest recall of all thresholds at which at least 90 % of the alarms are right; 0 if there is none.",
        partial(recall_at_precision, precision=0.9),
    ),
}
"""By their keys in metrics.json."""
