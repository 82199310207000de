"""How wrong is a prediction? Binary cross-entropy of every level, weighted as Eq. 6 of the CHR paper has it.

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
