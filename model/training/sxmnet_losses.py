"""Losses of SXMNet: attention (Eq. 3), the fused prediction and the weights of levels (Eq. 4).

Paper: B. Hu et al., "Multi-label X-ray Imagery Classification via Bottom-up Attention and Meta Fusion", ACCV 2020,
Section 3.2, "Loss Function". It names the terms ("Mean Squared Error", "standard Cross-Entropy", "Binary
Cross-Entropy") and leaves open how each is reduced. Here all are means over the scans of a batch, so that a batch may
be split; each function says how it reduces within a scan.

Shapes: B batch  K classes  L levels (finest first)  h w cells of the mask
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.inputs.batch import Batch, Boxes
from model.inputs.crop_geometry import areas_in, whole_windows
from model.inputs.sample_table import SampleTable
from model.networks.output import NetworkOutput
from model.training.attention_targets import draw_ellipses
from model.training.loss_base import Figures, Loss
from shards.format.classes import UNKNOWN

if TYPE_CHECKING:
    from model.training.config import TrainConfig

NUM_INTUITIVE_LEVELS = 3
UNKNOWN_LEVEL = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLossConfig(Loss):
    """Stage I, Eq. 3: L_I = L_att, from scans with boxes; rated by 1 - the mean squared error over cells."""

    rating: ClassVar[str] = "attention_fit"

    def check_config(self, config: "TrainConfig") -> None:
        """Raise ValueError if the network has no attention head."""
        if config.attention is None:
            raise ValueError("attention must be given to learn it, got none with AttentionLossConfig")

    def check_samples(self, samples: SampleTable) -> None:
        """Raise ValueError if a scan has no boxes."""
        if (samples.num_boxes_N == 0).any():
            row = int(np.argmin(samples.num_boxes_N))
            raise ValueError(f"scans must have boxes to learn attention, got none ({samples.describe(row)})")

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return L_att."""
        is_known_B = (batch.labels_BK != UNKNOWN).any(dim=1)
        return {"attention": attention_loss(*_mask_and_ellipses(output, batch), is_known_B)}

    def counted_labels(self, level_logits_LBK: Tensor, labels_BK: Tensor) -> Tensor:
        """Return False: labels are not learnt from."""
        return torch.zeros_like(level_logits_LBK, dtype=torch.bool)

    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean squared error of each scan (B, 1), the figure of Figure 6."""
        mask_B1hw, targets_B1hw = _mask_and_ellipses(output, batch)
        return (mask_B1hw - targets_B1hw).square().mean(dim=(2, 3))

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return 1 - the mean squared error over all scans and cells; None without scans."""
        errors = evidence[(labels_NK != UNKNOWN).any(axis=1)]
        return {self.rating: 1 - float(errors.mean(dtype=np.float64)) if len(errors) else None}


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedLossConfig(Loss):
    """L_cls of Eq. 4 alone: for average and gated fusion, and for the baselines of Table 2."""

    fusions: ClassVar[tuple[str, ...]] = ("average", "gated")

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return L_cls."""
        return {"classification": classification_loss(output.logits_BK, batch.labels_BK)}

    def top_gradient(self, num_levels: int, num_classes: int) -> float:
        """Return 1 / (L K): a mean over classes, of the mean over levels."""
        return 1 / (num_levels * num_classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntuitiveLabels:
    """MF-I: the level follows from how much of the scan its smallest item covers (Section 4.5)."""

    small_fraction: float = 0.02
    """Below it: the finest level (p3)."""
    large_fraction: float = 0.2
    """Above it: the coarsest level (p5). From small to large, both included: the middle one (p4)."""

    def __post_init__(self) -> None:
        if not 0 < self.small_fraction <= self.large_fraction < 1:
            raise ValueError(
                f"fractions must be 0 < small <= large < 1, got {self.small_fraction} and {self.large_fraction}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuralLabels:
    """MF-N: the level on which a trained CHR has the least loss, from a table (`model.training.level_labels`)."""

    table: str | None = None
    """A Parquet file that `sixray label-levels` wrote, any fsspec URL; None: to be set before training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaLossConfig(Loss):
    """Stage II, Eq. 4: L_II = L_cls + λ L_meta.

    Scans without boxes, or that the table does not name, have no label of their level.
    """

    fusions: ClassVar[tuple[str, ...]] = ("meta",)

    labels: IntuitiveLabels | NeuralLabels
    weight: float = 0.1
    """λ, 0.1 in the paper (Section 4.2)."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be > 0, got {self.weight}; without L_meta the loss is FusedLossConfig")

    def check_config(self, config: "TrainConfig") -> None:
        """Raise ValueError if the network has another number of levels than intuitive labels."""
        if isinstance(self.labels, IntuitiveLabels) and config.num_levels != NUM_INTUITIVE_LEVELS:
            raise ValueError(f"num_levels must be {NUM_INTUITIVE_LEVELS} with IntuitiveLabels, got {config.num_levels}")

    def count_levels(self, training: SampleTable) -> dict[str, int]:
        """Return the number of scans that label each level; for MF-I by the share of the untrimmed scan."""
        levels_N = training.levels_N
        if isinstance(self.labels, IntuitiveLabels):
            levels_N = intuitive_levels(_boxes_as_stored(training), len(training), self.labels).numpy()
            remedy = "train on a dataset with boxes, or with another fusion"
        else:
            remedy = "score this dataset and run `sixray label-levels` again"
        if not levels_N.any():
            raise ValueError(
                f"scans to train Meta Fusion on must have levels, got none of {len(training)} scans with one "
                f"({training.describe(0)} and all others); {remedy}"
            )
        numbers = np.bincount(levels_N).tolist()
        return {str(level) if level else "unlabelled": number for level, number in enumerate(numbers)}

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return L_cls and λ L_meta."""
        levels_B = batch.levels_B
        if isinstance(self.labels, IntuitiveLabels):
            levels_B = intuitive_levels(batch.boxes, len(batch.rows_B), self.labels)
        assert output.log_weights_BL is not None
        return {
            "classification": classification_loss(output.logits_BK, batch.labels_BK),
            "selection": self.weight * selection_loss(output.log_weights_BL, levels_B),
        }

    def top_gradient(self, num_levels: int, num_classes: int) -> float:
        """Return that of `FusedLossConfig`."""
        return FusedLossConfig().top_gradient(num_levels, num_classes)


def _mask_and_ellipses(output: NetworkOutput, batch: Batch) -> tuple[Tensor, Tensor]:
    mask_B1hw = output.attention_B1hw
    assert mask_B1hw is not None
    return mask_B1hw, draw_ellipses(batch.boxes, len(mask_B1hw), *mask_B1hw.shape[-2:])


def _boxes_as_stored(samples: SampleTable) -> Boxes:
    edges_M4, scans_M, classes_M = samples.boxes_of(np.arange(len(samples)))
    areas_M = areas_in(edges_M4, whole_windows(len(edges_M4)))
    return Boxes(*(torch.from_numpy(array) for array in (edges_M4, areas_M, scans_M, classes_M)))


def attention_loss(mask_B1hw: Tensor, targets_B1hw: Tensor, known_B: Tensor) -> Tensor:
    """Return L_att: the squared error summed over the cells of a scan, then the mean over scans.

    The paper's rate of 1e-5 (Section 4.2) implies the sum: with the mean over 3,136 cells SGD would not move in its
    350 epochs. Its Figure 6, where larger masks have a smaller loss, seems to show the mean; training logs that.

    Args:
        mask_B1hw: of the attention head.
        targets_B1hw: of the same size, 1 inside the ellipses.
        known_B: bool; a scan that is not known adds nothing.
    """
    errors_B = (mask_B1hw - targets_B1hw).square().sum(dim=(1, 2, 3))
    return torch.where(known_B, errors_B, 0.0).mean()


def classification_loss(logits_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Return L_cls: binary cross-entropy of the fused prediction, the mean over classes and scans.

    Args:
        logits_BK: fused, float32, not scores.
        labels_BK: 1 present, 0 absent, -1 unknown; an unknown label adds nothing.
    """
    known_BK = labels_BK != UNKNOWN
    targets_BK = torch.where(known_BK, labels_BK, 0.0).to(logits_BK.dtype)
    losses_BK = functional.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="none")
    return (losses_BK * known_BK).mean()


def selection_loss(log_weights_BL: Tensor, levels_B: Tensor) -> Tensor:
    """Return L_meta: cross-entropy of the levels' weights, the mean over all scans.

    A scan without a label adds nothing and still counts in the mean, so the fewer scans have labels, the less λ weighs.

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
