"""Define what a training loop needs of a loss, and the figures that rate an epoch.

To add a loss, write a frozen dataclass of its settings that derives from `Loss`, with its `terms`, and list it in
`model.training.config.LOSSES`.

Shapes: B batch  K classes  N held-out scans
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from model.inputs.batch import Batch
from model.inputs.sample_table import SampleTable
from model.metrics import arrays, ranking
from model.networks.output import NetworkOutput
from shards.format.classes import UNKNOWN

if TYPE_CHECKING:
    from model.training.config import TrainConfig

_log = logging.getLogger(__name__)

Figures = dict[str, float | None]
"""By name, in [0, 1], higher is better; None where undefined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss(ABC):
    """A loss with its settings, for any number of items in a scan; it is sent to other processes, so it pickles."""

    rating: ClassVar[str] = "mean_average_precision"
    """The figure of `rate` whose highest value chooses the epoch."""
    fusions: ClassVar[tuple[str, ...]] = ("average",)
    """Those of `model.networks.config.FUSIONS` that it can train."""

    @abstractmethod
    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the scalars whose sum is the loss, by name.

        Each is a mean over the batch's scans, to which a void one adds nothing: the training loop weights the batches
        of a step by their scans.
        """

    def check_config(self, config: "TrainConfig") -> None:  # noqa: B027 (optional)
        """Raise ValueError if a run with these settings cannot use this loss."""

    def check_samples(self, samples: SampleTable) -> None:  # noqa: B027 (optional)
        """Raise ValueError if these scans cannot be used to train with this loss."""

    def count_levels(self, training: SampleTable) -> dict[str, int] | None:
        """Return the number of scans that label each level, `unlabelled` those that label none.

        None if the loss uses no labels of levels.

        Raises:
            ValueError: it does, and no scan has one.
        """
        return None

    def counted_labels(self, level_logits_LBK: Tensor, labels_BK: Tensor) -> Tensor:
        """Return which labels the loss counts at which level, bool (L, B, K): all that are known unless overridden."""
        return (labels_BK != UNKNOWN).expand_as(level_logits_LBK)

    def top_gradient(self, num_levels: int, num_classes: int) -> float | None:
        """Return the weight of the top level's cross-entropy for one class, which scales its gradient.

        With equal weights of levels. None if the loss is no sum of binary cross-entropies.
        """
        return None

    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return what `rate` needs of each held-out scan, (B, any): the fused logits unless overridden."""
        return output.logits_BK

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return the figures of held-out scans: average precisions unless overridden.

        Args:
            evidence: of `evidence`, (N, any).
            labels_NK: as in `Batch`; all unknown for padding too.
            classes: names of the K classes.
        """
        found = average_precisions(evidence, labels_NK)
        by_class = {f"average_precision/{name}": value for name, value in zip(classes, found, strict=True)}
        return by_class | {"mean_average_precision": ranking.mean_of_defined(found)}


def sum_terms(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the terms of a loss."""
    return torch.stack(list(terms.values())).sum()


def top_accuracy(logits_NK: np.ndarray, labels_NK: np.ndarray, k: int) -> float | None:
    """Return `ranking.top_accuracy` of the scans whose labels are known; None without such scans.

    Args:
        logits_NK: fused logits.
        labels_NK: one 1 in a row; rows with an unknown label are left out.
        k: how many of the highest logits may hold the true class.
    """
    known_N = (labels_NK != UNKNOWN).all(axis=1)
    if not known_N.any():
        return None
    return ranking.top_k_accuracy(logits_NK[known_N], labels_NK[known_N].argmax(axis=1), k)


def average_precisions(logits_NK: np.ndarray, labels_NK: np.ndarray) -> list[float | None]:
    """Return the non-interpolated average precision of each class; None for a class without known positives.

    Args:
        logits_NK: fused logits; if any is NaN or infinite, every figure is None.
        labels_NK: 1 present, 0 absent, -1 unknown (padding among them).
    """
    if not np.isfinite(logits_NK).all():
        _log.warning("logits of held-out scans must be finite, got NaN or infinity: the network has diverged")
        return [None] * logits_NK.shape[1]
    found_K = arrays.average_precision(logits_NK, labels_NK)
    return [None if math.isnan(value) else value for value in found_K.tolist()]
