"""What is a network trained for? A config becomes an objective: its loss, and the figure that chooses the epoch.

To train for something else, write one class like those below and one line in `build_objective`.

Shapes: B batch  K classes  N held-out scans
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from model.inputs.batch import Batch, Boxes
from model.inputs.crop_geometry import areas_in, whole_windows
from model.inputs.sample_table import SampleTable
from model.metrics import ranking
from model.networks.output import NetworkOutput
from model.training.attention_targets import draw_ellipses
from model.training.config import Loss
from model.training.losses import LossConfig, SoftmaxConfig, hierarchical_loss, softmax_loss
from model.training.sxmnet_losses import (
    AttentionLossConfig,
    FusedLossConfig,
    IntuitiveLabels,
    MetaLossConfig,
    attention_loss,
    classification_loss,
    intuitive_levels,
    selection_loss,
)

_log = logging.getLogger(__name__)

Figures = dict[str, float | None]
"""By name, in [0, 1], higher is better; None where it is undefined."""


class Objective(ABC):
    """What the training loop asks of an objective; instances travel to other processes, so they can be pickled."""

    rating: ClassVar[str]
    """The figure of `rate` whose highest value chooses the epoch."""

    @abstractmethod
    def check(self, samples: SampleTable) -> None:
        """Raise ValueError where these scans cannot be trained on so."""

    def count_levels(self, training: SampleTable) -> dict[str, int] | None:
        """Return from how many scans each level is learnt, `unlabelled` those from none; None: no level is learnt.

        Raises:
            ValueError: levels are to be learnt, and there is none to learn from.
        """
        return None

    def loss(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum of the terms, a scalar."""
        return add_up(self.terms(output, batch))

    @abstractmethod
    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return what the loss is the sum of, by name.

        Each is a mean over the batch's scans; one whose labels are all unknown adds nothing. The loop relies on the
        mean: it weighs the batches of a step by their scans.
        """

    @abstractmethod
    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return what `rate` asks of each held-out scan, (B, any)."""

    @abstractmethod
    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return how good the evidence of held-out scans is, (N, any); labels as in `Batch`, NaN for padding too."""


def add_up(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of a loss' terms."""
    return torch.stack(list(terms.values())).sum()


def build_objective(config: Loss) -> Objective:
    """Return the objective that a loss' config stands for."""
    match config:
        case LossConfig():
            return MultiLabel(config)
        case SoftmaxConfig():
            return SingleLabel()
        case AttentionLossConfig():
            return Attention()
        case FusedLossConfig() | MetaLossConfig():
            return Fused(config)


@dataclass(frozen=True, slots=True)
class MultiLabel(Objective):
    """Any number of items in a scan: binary cross-entropy of every level (CHR, Section 4.3); average precision."""

    config: LossConfig
    rating: ClassVar[str] = "mean_average_precision"

    def check(self, samples: SampleTable) -> None:
        """Take any labels."""

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return Eq. 6, averaged over levels and scans."""
        return {"classification": hierarchical_loss(output.level_logits_LBK, batch.labels_BK, self.config)}

    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return the fused logits."""
        return output.logits_BK

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return the non-interpolated average precision of each class that has known positives, and their mean."""
        return rate_average_precision(evidence, labels_NK, classes)


@dataclass(frozen=True, slots=True)
class SingleLabel(Objective):
    """One item in every scan (CHR, Section 5.5): soft-max cross-entropy of every level, rated by top-1 accuracy."""

    rating: ClassVar[str] = "top1_accuracy"

    def check(self, samples: SampleTable) -> None:
        """Raise ValueError where a scan has no item, several, or labels that are not known."""
        num_present_N = (samples.labels_NK == 1).sum(axis=1)
        is_bad_N = (num_present_N != 1) | np.isnan(samples.labels_NK).any(axis=1)
        if is_bad_N.any():
            row = int(np.argmax(is_bad_N))
            raise ValueError(
                f"labels must be one 1 among zeros for a soft-max, got {samples.labels_NK[row].tolist()} "
                f"({samples.describe(row)}, one of {int(is_bad_N.sum())}); train with LossConfig"
            )

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, averaged over levels and scans."""
        return {"classification": softmax_loss(output.level_logits_LBK, batch.labels_BK)}

    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return the fused logits."""
        return output.logits_BK

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return how often the true class has the highest logit, and one of the five highest."""
        found = [top_accuracy(evidence, labels_NK, num_guesses) for num_guesses in (1, 5)]
        return {self.rating: found[0], "top5_accuracy": found[1]}


@dataclass(frozen=True, slots=True)
class Attention(Objective):
    """Where the items are (SXMNet, stage I, Eq. 3): squared error of the mask, rated by 1 - its mean over cells."""

    rating: ClassVar[str] = "attention_fit"

    def check(self, samples: SampleTable) -> None:
        """Raise ValueError where scans have no boxes: there is nothing to learn from them."""
        if (samples.num_boxes_N == 0).any():
            row = int(np.argmin(samples.num_boxes_N))
            raise ValueError(f"scans must have boxes to learn attention, got none ({samples.describe(row)})")

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return L_att."""
        is_known_B = ~batch.labels_BK.isnan().all(dim=1)
        return {"attention": attention_loss(*_mask_and_ellipses(output, batch), is_known_B)}

    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean squared error of each scan (B, 1), the figure of Figure 6."""
        mask_B1hw, targets_B1hw = _mask_and_ellipses(output, batch)
        return (mask_B1hw - targets_B1hw).square().mean(dim=(2, 3))

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return 1 - the mean squared error over all scans and cells; None without scans."""
        errors = evidence[~np.isnan(labels_NK).all(axis=1)]
        return {self.rating: 1 - float(errors.mean(dtype=np.float64)) if len(errors) else None}


def _mask_and_ellipses(output: NetworkOutput, batch: Batch) -> tuple[Tensor, Tensor]:
    mask_B1hw = output.attention_B1hw
    assert mask_B1hw is not None
    return mask_B1hw, draw_ellipses(batch.boxes, len(mask_B1hw), *mask_B1hw.shape[-2:])


@dataclass(frozen=True, slots=True)
class Fused(Objective):
    """Any number of items, by the fused prediction alone, and by labels of levels (SXMNet, stage II, Eq. 4)."""

    config: FusedLossConfig | MetaLossConfig
    rating: ClassVar[str] = "mean_average_precision"

    def check(self, samples: SampleTable) -> None:
        """Take any labels; scans without boxes, or that a table does not name, have no label of their level."""

    def count_levels(self, training: SampleTable) -> dict[str, int] | None:
        """Return from how many scans each level is learnt; of MF-I by the share of the scan as stored, untrimmed."""
        if isinstance(self.config, FusedLossConfig):
            return None
        levels_N, labels = training.levels_N, self.config.labels
        if isinstance(labels, IntuitiveLabels):
            levels_N = intuitive_levels(_boxes_as_stored(training), len(training), labels).numpy()
        if not levels_N.any():
            remedy = (
                "train on a dataset with boxes, or with another fusion"
                if isinstance(labels, IntuitiveLabels)
                else "score this dataset and run `sixray label-levels` again"
            )
            raise ValueError(
                f"scans to train Meta Fusion on must have levels, got none of {len(training)} scans with one "
                f"({training.describe(0)} and all others); {remedy}"
            )
        numbers = np.bincount(levels_N).tolist()
        return {str(level) if level else "unlabelled": number for level, number in enumerate(numbers)}

    def terms(self, output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Return L_cls and λ L_meta, or L_cls alone where levels have no labels."""
        terms = {"classification": classification_loss(output.logits_BK, batch.labels_BK)}
        if isinstance(self.config, FusedLossConfig):
            return terms
        levels_B, labels = batch.levels_B, self.config.labels
        if isinstance(labels, IntuitiveLabels):
            levels_B = intuitive_levels(batch.boxes, len(batch.rows_B), labels)
        assert output.log_weights_BL is not None
        return terms | {"selection": self.config.weight * selection_loss(output.log_weights_BL, levels_B)}

    def evidence(self, output: NetworkOutput, batch: Batch) -> Tensor:
        """Return the fused logits."""
        return output.logits_BK

    def rate(self, evidence: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
        """Return the non-interpolated average precision of each class that has known positives, and their mean."""
        return rate_average_precision(evidence, labels_NK, classes)


def _boxes_as_stored(samples: SampleTable) -> Boxes:
    edges_M4, scans_M = samples.boxes_of(np.arange(len(samples)))
    areas_M = areas_in(edges_M4, whole_windows(len(edges_M4)))
    return Boxes(*(torch.from_numpy(array) for array in (edges_M4, areas_M, scans_M)))


def rate_average_precision(logits_NK: np.ndarray, labels_NK: np.ndarray, classes: Sequence[str]) -> Figures:
    """Return the non-interpolated average precision of each class that has known positives, and their mean."""
    found = average_precisions(logits_NK, labels_NK)
    of_classes = {f"average_precision/{name}": value for name, value in zip(classes, found, strict=True)}
    return of_classes | {"mean_average_precision": ranking.mean_of_defined(found)}


def top_accuracy(logits_NK: np.ndarray, labels_NK: np.ndarray, num_guesses: int) -> float | None:
    """Return `metrics.top_accuracy` of the scans whose labels are known; None without such scans.

    Args:
        logits_NK: fused logits.
        labels_NK: one 1 in a row; rows of NaN are left out.
    """
    known_N = ~np.isnan(labels_NK).any(axis=1)
    if not known_N.any():
        return None
    return ranking.top_accuracy(logits_NK[known_N], labels_NK[known_N].argmax(axis=1), num_guesses)


def average_precisions(logits_NK: np.ndarray, labels_NK: np.ndarray) -> list[float | None]:
    """Return the non-interpolated average precision of each class; None for a class without known positives.

    Args:
        logits_NK: fused logits; a NaN among them (a network that diverged) makes every figure None.
        labels_NK: 1 present, 0 absent, NaN unknown (padding among them).
    """
    if not np.isfinite(logits_NK).all():
        _log.warning("logits of held-out scans must be finite, got NaN or infinity: the network has diverged")
        return [None] * logits_NK.shape[1]
    coded_NK = np.where(np.isnan(labels_NK), ranking.UNKNOWN, labels_NK).astype(np.int8)
    return [
        ranking.average_precision(ranking.trace_curve(ranking.rank(logits_N, labels_N)))
        for logits_N, labels_N in zip(logits_NK.T, coded_NK.T, strict=True)
    ]
