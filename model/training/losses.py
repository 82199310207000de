"""How wrong is a prediction? Cross-entropy a level: binary and weighted as in Eq. 6 of the CHR paper, or soft-max.

Paper: C. Miao et al., "SIXray", CVPR 2019, Section 4.3. Shapes: B batch  K classes  L levels (finest first)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """What the loss needs beside logits and labels."""

    balanced: bool = True
    """The class-balanced weights (the `c` of Table 4); else every known label weighs 1."""
    threshold: float = 0.05
    """ε, in (0, 1): a negative label counts only where the score is larger. The paper gives no value; this is ours.
    The authors' code compares a logit with -20, so that it never drops anything."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {self.threshold}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxConfig:
    """One item in every scan, as in ILSVRC2012 (Section 5.5): soft-max over classes, and no weights.

    A model that was trained so says by `softmax(logits)` how likely each class is. Predictions hold its logits like any
    other's, and what reads them takes `sigmoid(logits)` for the score: the order of scans within a class, so every
    average precision, is the logit's either way, but these scores are no probabilities and do not add up to 1.
    """


def hierarchical_loss(level_logits_LBK: Tensor, labels_BK: Tensor, config: LossConfig) -> Tensor:
    """Return the loss of a batch, a scalar: per scan summed over classes, then averaged over levels and the batch.

    The paper sums over classes (the inner product of Eq. 6) and averages over levels (Section 4.3); it leaves open
    how a batch is reduced: here by the mean over its scans, whatever their weights, so that switching easy negatives
    off does not make the remaining ones count more.

    Args:
        level_logits_LBK: float32, not scores.
        labels_BK: 1 present, 0 absent, NaN unknown; unknown labels weigh nothing.
        config: whether and where negatives are switched off.
    """
    known_BK = ~labels_BK.isnan()
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

    Section 5.5 of the CHR paper switches the weights off and says no more: the soft-max is the standard that it follows
    there, and levels are averaged as in Section 4.3.

    Args:
        level_logits_LBK: float32.
        labels_BK: one 1 in a row, the others 0; or all NaN, then the scan adds nothing.
    """
    losses_LB = functional.cross_entropy(
        level_logits_LBK.movedim(2, 1), labels_BK.argmax(dim=1).expand(level_logits_LBK.shape[:2]), reduction="none"
    )
    return torch.where(labels_BK.isnan().any(dim=1), 0.0, losses_LB).mean()


def class_balanced_weights(level_logits_LBK: Tensor, targets_BK: Tensor, threshold: float) -> Tensor:
    """Return w of Eq. 6, {0, 1}, without gradient.

    At the highest level a class with a positive label always counts; one with a negative label counts only where the
    score is larger than the threshold. At each lower level the same judgement holds on that level's score, and every
    higher level must support it: a class once switched off stays off below.
    """
    with torch.no_grad():
        counts_LBK = (targets_BK > 0) | (level_logits_LBK.sigmoid() > threshold)
        # A running "and" from the highest level (last) down to the finest (first).
        return counts_LBK.to(level_logits_LBK.dtype).flip(0).cumprod(dim=0).flip(0)
