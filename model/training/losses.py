"""Losses of the CHR paper: cross-entropy of every level, binary and class-balanced (Eq. 6), or soft-max; its authors'.

Paper: C. Miao et al., "SIXray", CVPR 2019, Section 4.3. Shapes: B batch  K classes  L levels (finest first)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.inputs.batch import Batch
from model.inputs.sample_table import SampleTable
from model.networks.output import NetworkOutput
from model.training.loss_base import Figures, Loss, top_accuracy
from shards.format.classes import UNKNOWN

if TYPE_CHECKING:
    from model.training.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig(Loss):
    """Any number of items in a scan: binary cross-entropy of every level (CHR, Section 4.3)."""

    balanced: bool = True
    """The class-balanced weights (the `c` of Table 4); else every known label weighs 1."""
    threshold: float = 0.05
    """ε, in (0, 1): a negative label counts only where the score is larger. The paper gives no value; this is ours.
    The authors' code compares a logit with -20 (`AuthorsLossConfig`)."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {self.threshold}")

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return Eq. 6, averaged over levels and scans."""
        return {"classification": hierarchical_loss(output.level_logits_LBK, batch.labels_BK, self)}

    def counted_labels(self, level_logits_LBK: Tensor, labels_BK: Tensor) -> Tensor:
        """Return where w of Eq. 6 is 1; without it, all known labels."""
        known_LBK = (labels_BK != UNKNOWN).expand_as(level_logits_LBK)
        if not self.balanced:
            return known_LBK
        return known_LBK & (class_balanced_weights(level_logits_LBK, labels_BK, self.threshold) > 0)

    def top_gradient(self, num_levels: int, num_classes: int) -> float:
        """Return 1 / L: a mean over levels of sums over classes."""
        return 1 / num_levels


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorsLossConfig(Loss):
    """The loss of the authors' public code, which is not that of their paper (MeioJane/CHR, `CHR/engine.py`).

    A sum over levels of means over classes and scans. A negative label is dropped by a level's own logit; levels above
    say nothing of it. Doubtful labels, 0 in their lists and unknown here, are trained as positives. Computed from
    logits; the code adds 1e-10 to scores.
    """

    fusions: ClassVar[tuple[str, ...]] = ("average", "top")

    threshold: float = -20.0
    """A logit: a negative label counts at a level whose logit is not below it."""

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the sum over levels of the mean cross-entropy."""
        logits_LBK = output.level_logits_LBK
        counts_LBK = self.counted_labels(logits_LBK, batch.labels_BK) & ~batch.is_void_B[:, None]
        targets_LBK = (batch.labels_BK != 0).to(logits_LBK.dtype).expand_as(logits_LBK)
        losses_LBK = functional.binary_cross_entropy_with_logits(logits_LBK, targets_LBK, reduction="none")
        return {"classification": (counts_LBK * losses_LBK).mean(dim=(1, 2)).sum()}

    def counted_labels(self, level_logits_LBK: Tensor, labels_BK: Tensor) -> Tensor:
        """Return all labels but those that are negative where the level's logit is below the threshold."""
        return (labels_BK != 0) | (level_logits_LBK >= self.threshold)

    def top_gradient(self, num_levels: int, num_classes: int) -> float:
        """Return 1 / K: a sum over levels of means over classes."""
        return 1 / num_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxConfig(Loss):
    """One item in every scan, as in ILSVRC2012 (Section 5.5): unweighted soft-max cross-entropy of every level.

    The model's probabilities are `softmax(logits)`. Predictions record its logits, and their readers use
    `sigmoid(logits)` as the score: scans keep their order within a class, and with it every average precision, but the
    scores are no probabilities and do not add up to 1.
    """

    rating: ClassVar[str] = "top1_accuracy"

    def check_config(self, config: "TrainConfig") -> None:
        """Raise ValueError if scans get the items of others."""
        for name in ("mixed", "projected"):
            if share := getattr(config.augmentation, name):
                raise ValueError(f"{name} must be 0 with SoftmaxConfig, whose scans have one item, got {share}")

    def check_samples(self, samples: SampleTable) -> None:
        """Raise ValueError if a scan has no item, several, or unknown labels."""
        num_present_N = (samples.labels_NK == 1).sum(axis=1)
        is_bad_N = (num_present_N != 1) | (samples.labels_NK == UNKNOWN).any(axis=1)
        if is_bad_N.any():
            row = int(np.argmax(is_bad_N))
            raise ValueError(
                f"labels must be one 1 among zeros for a soft-max, got {samples.labels_NK[row].tolist()} "
                f"({samples.describe(row)}, one of {int(is_bad_N.sum())}); train with LossConfig"
            )

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, averaged over levels and scans."""
        return {"classification": softmax_loss(output.level_logits_LBK, batch.labels_BK)}

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return how often the true class has the highest logit, and one of the five highest."""
        return {f"top{k}_accuracy": top_accuracy(evidence, labels_NK, k) for k in (1, 5)}


def hierarchical_loss(level_logits_LBK: Tensor, labels_BK: Tensor, config: LossConfig) -> Tensor:
    """Return the loss of a batch, a scalar: per scan summed over classes, then averaged over levels and the batch.

    The paper sums over classes (the inner product of Eq. 6) and averages over levels (Section 4.3). How a batch is
    reduced it leaves open: here by the unweighted mean over scans, so that dropping easy negatives does not make the
    remaining ones count more.

    Args:
        level_logits_LBK: float32, not scores.
        labels_BK: 1 present, 0 absent, -1 unknown; unknown labels weigh nothing.
        config: whether and when negatives are dropped.
    """
    known_BK = labels_BK != UNKNOWN
    targets_BK = torch.where(known_BK, labels_BK, 0.0)
    if config.balanced:
        weights_LBK = class_balanced_weights(level_logits_LBK, targets_BK, config.threshold) * known_BK
    else:
        weights_LBK = known_BK.expand_as(level_logits_LBK).to(level_logits_LBK.dtype)
    losses_LBK = functional.binary_cross_entropy_with_logits(
        level_logits_LBK, targets_BK.to(level_logits_LBK.dtype).expand_as(level_logits_LBK), reduction="none"
    )
    return (weights_LBK * losses_LBK).sum(dim=2).mean()


def softmax_loss(level_logits_LBK: Tensor, labels_BK: Tensor) -> Tensor:
    """Return the loss of a batch of single-label scans, a scalar: the mean over levels and scans.

    Section 5.5 of the CHR paper says only that the weights are off: the soft-max is the standard for that dataset, and
    levels are averaged as in Section 4.3.

    Args:
        level_logits_LBK: float32.
        labels_BK: one 1 in a row, the others 0; or all -1 (unknown), then the scan adds nothing.
    """
    losses_LB = functional.cross_entropy(
        level_logits_LBK.movedim(2, 1), labels_BK.argmax(dim=1).expand(level_logits_LBK.shape[:2]), reduction="none"
    )
    return torch.where((labels_BK == UNKNOWN).any(dim=1), 0.0, losses_LB).mean()


def class_balanced_weights(level_logits_LBK: Tensor, targets_BK: Tensor, threshold: float) -> Tensor:
    """Return w of Eq. 6, {0, 1}, without gradient.

    A class with a positive label always counts. One with a negative label counts at a level if its score exceeds the
    threshold there and at every higher level: once dropped, it stays dropped at all lower levels.
    """
    with torch.no_grad():
        counts_LBK = (targets_BK > 0) | (level_logits_LBK.sigmoid() > threshold)
        # A running "and" from the highest level (last) down to the finest (first).
        return counts_LBK.to(level_logits_LBK.dtype).flip(0).cumprod(dim=0).flip(0)
