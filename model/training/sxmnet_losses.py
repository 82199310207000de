"""How wrong are SXMNet's mask, its prediction and its weights of levels? The terms of Eq. 3 and 4.

Paper: B. Hu et al., "Multi-label X-ray Imagery Classification via Bottom-up Attention and Meta Fusion", ACCV 2020,
Section 3.2, "Loss Function". It names the terms ("Mean Squared Error", "standard Cross-Entropy", "Binary
Cross-Entropy") and leaves open how each is reduced. All are means over the scans of a batch here, so that a batch may
be split; within a scan each says what it does.

Shapes: B batch  K classes  L levels (finest first)  h w cells of the mask
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.inputs.batch import Boxes

NUM_INTUITIVE_LEVELS = 3
UNKNOWN_LEVEL = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLossConfig:
    """Stage I, Eq. 3: L_I = L_att, from scans with boxes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedLossConfig:
    """L_cls of Eq. 4 alone: what average and gated fusion learn from, and the baselines of Table 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntuitiveLabels:
    """MF-I: the level follows from how much of the scan its smallest item covers (Section 4.5)."""

    small_fraction: float = 0.02
    """Under it the finest level (p3)."""
    large_fraction: float = 0.2
    """Over it the coarsest (p5); from one to the other, both included, the middle one (p4)."""

    def __post_init__(self) -> None:
        if not 0 < self.small_fraction <= self.large_fraction < 1:
            raise ValueError(
                f"fractions must be 0 < small <= large < 1, got {self.small_fraction} and {self.large_fraction}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuralLabels:
    """MF-N: the level that a trained CHR has the least loss on, from a table (`model.training.level_labels`)."""

    table: str | None = None
    """A Parquet file that `sixray label-levels` wrote, any fsspec URL; None: not yet known, so not to be trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaLossConfig:
    """Stage II, Eq. 4: L_II = L_cls + λ L_meta."""

    labels: IntuitiveLabels | NeuralLabels
    weight: float = 0.1
    """λ, 0.1 in the paper (Section 4.2)."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be > 0, got {self.weight}; without L_meta the loss is FusedLossConfig")


def attention_loss(mask_B1hw: Tensor, targets_B1hw: Tensor, known_B: Tensor) -> Tensor:
    """Return L_att: the squared error summed over the cells of a scan, then the mean over scans.

    The paper's rate of 1e-5 (Section 4.2) asks for the sum: with the mean over 3,136 cells SGD would not move in its
    350 epochs. Its Figure 6, where larger masks have a smaller loss, looks like the mean; that is what training logs.

    Args:
        mask_B1hw: what the attention head says.
        targets_B1hw: of the same size, 1 inside of ellipses.
        known_B: bool; a scan that is not known adds nothing.
    """
    errors_B = (mask_B1hw - targets_B1hw).square().sum(dim=(1, 2, 3))
    return torch.where(known_B, errors_B, 0.0).mean()


def classification_loss(logits_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Return L_cls: binary cross-entropy of the fused prediction, the mean over classes and scans.

    Args:
        logits_BK: fused, float32, not scores.
        labels_BK: 1 present, 0 absent, NaN unknown; an unknown label adds nothing.
    """
    known_BK = ~labels_BK.isnan()
    targets_BK = torch.where(known_BK, labels_BK, 0.0).to(logits_BK.dtype)
    losses_BK = functional.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="none")
    return (losses_BK * known_BK).mean()


def selection_loss(log_weights_BL: Tensor, levels_B: Tensor) -> Tensor:
    """Return L_meta: cross-entropy of the levels' weights, the mean over all scans.

    A scan without a label adds nothing, and still counts in the mean: its weights follow L_cls alone. If few scans have
    labels λ has so much less to say.

    Args:
        log_weights_BL: logarithms of the weights.
        levels_B: int64, from 1 (finest) to L; 0 where no label is known.
    """
    picked_B = log_weights_BL.gather(1, (levels_B - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(levels_B == UNKNOWN_LEVEL, 0.0, -picked_B).mean()


def intuitive_levels(boxes: Boxes, num_scans: int, labels: IntuitiveLabels) -> Tensor:
    """Return the level of each scan by its smallest box (MF-I), int64 (B,): 1, 2 or 3, or 0 for one without boxes."""
    smallest_B = torch.full((num_scans,), torch.inf, device=boxes.areas_M.device)
    smallest_B = smallest_B.scatter_reduce(0, boxes.scans_M, boxes.areas_M, "amin")
    levels_B = 1 + (smallest_B >= labels.small_fraction).long() + (smallest_B > labels.large_fraction).long()
    return torch.where(smallest_B.isinf(), UNKNOWN_LEVEL, levels_B)
