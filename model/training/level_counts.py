"""Count which level decides: where peaks come from, which level has the least loss, which negatives it judges.

A level that gets no gradient floats, and then decides both by its offset: that shows here first.

Shapes: B batch  K classes  L levels (finest first)
"""

from collections.abc import Sequence

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torch.nn import functional

from model.inputs.batch import Batch
from model.networks.output import NetworkOutput
from model.training.loss_base import Loss
from shards.format.classes import UNKNOWN


class LevelTally:
    """Adds up the counts of an epoch's batches, of one rank."""

    def __init__(self, num_levels: int) -> None:
        self._counts_4L = torch.zeros(4, num_levels, dtype=torch.int64)

    def clear(self) -> None:
        """Begin an epoch."""
        self._counts_4L = torch.zeros_like(self._counts_4L)

    def add(self, output: NetworkOutput, batch: Batch, loss: Loss) -> None:
        """Count a batch; the host does not wait for it."""
        counts_4L = count_levels(output, batch, loss)
        self._counts_4L = self._counts_4L.to(counts_4L.device) + counts_4L

    def total(self, strategy: Strategy) -> list[list[int]]:
        """Return the sums over all ranks, which wait for one another and for their devices."""
        counts_4L = self._counts_4L.to(strategy.root_device, copy=True)
        total_4L: list[list[int]] = strategy.reduce(counts_4L, reduce_op="sum").tolist()  # type: ignore[union-attr]
        return total_4L

    def restore(self, total_4L: Sequence[Sequence[int]]) -> None:
        """Go on from what `total` returned."""
        self._counts_4L = torch.tensor(total_4L)


@torch.no_grad()
def count_levels(output: NetworkOutput, batch: Batch, loss: Loss) -> Tensor:
    """Return the counts of a batch, int64 (4, L), on its device, without waiting for that.

    Of each level: items whose peak is its (`find_peaks`), scans in which it has the least cross-entropy
    (`least_loss_levels`), negative labels that count there, and all negative labels.
    """
    logits_LBK, labels_BK = output.level_logits_LBK, batch.labels_BK
    level_L11 = torch.arange(len(logits_LBK), device=logits_LBK.device)[:, None, None]
    highest_LBK = torch.stack([heatmap_BKhw.amax(dim=(2, 3)) for heatmap_BKhw in output.heatmaps])
    is_peak_LBK = (highest_LBK.argmax(dim=0) == level_L11) & (labels_BK == 1)
    known_BK = labels_BK != UNKNOWN
    losses_LBK = functional.binary_cross_entropy_with_logits(
        logits_LBK, torch.where(known_BK, labels_BK, 0.0).expand_as(logits_LBK), reduction="none"
    )
    least_B = (losses_LBK * known_BK).sum(dim=2).argmin(dim=0)
    is_least_LB = (least_B == level_L11[:, 0]) & known_BK.any(dim=1)
    absent_LBK = (labels_BK == 0).expand_as(logits_LBK)
    judged_LBK = loss.counted_labels(logits_LBK, labels_BK) & absent_LBK
    return torch.stack([of.flatten(1).sum(dim=1) for of in (is_peak_LBK, is_least_LB, judged_LBK, absent_LBK)])


def share_levels(counts_4L: Sequence[Sequence[int]]) -> dict[str, list[float | None]]:
    """Return the shares of each level, finest first, by name: of `peaks`, of `least_loss`, of `negatives` that count.

    Args:
        counts_4L: sums of `count_levels`.

    Returns:
        in [0, 1]; None where there is nothing to share.
    """
    peaks, least, judged, absent = counts_4L
    totals = {"peaks": (peaks, [sum(peaks)] * len(peaks)), "least_loss": (least, [sum(least)] * len(least))}
    totals["negatives"] = (judged, list(absent))
    return {
        name: [part / whole if whole else None for part, whole in zip(*of, strict=True)] for name, of in totals.items()
    }
