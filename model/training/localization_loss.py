"""Draw the peaks of class activation maps into the boxes of their class.

Shapes: B batch  K classes  h w cells of a level's map
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.inputs.batch import Boxes
from model.training.attention_targets import draw_class_ellipses


def localization_loss(heatmaps: Sequence[Tensor], labels_BK: Tensor, boxes: Boxes) -> Tensor:
    """Return minus the logarithm of the share of a map's soft-max that lies in the ellipses of its class' boxes.

    The mean over levels and scans; within a scan, the mean over the classes that are present and have a box in view. A
    scan without such a class adds nothing, so labels without boxes can be mixed in. The soft-max leaves the level of
    the map free: the term moves its peak and not the score.

    Args:
        heatmaps: class activation maps of every level, each (B, K, h, w), in logits.
        labels_BK: 1 present, 0 absent, -1 unknown.
        boxes: of the batch.
    """
    losses = [_of_level(heatmap_BKhw.float(), labels_BK == 1, boxes) for heatmap_BKhw in heatmaps]
    return torch.stack(losses).mean()


def _of_level(heatmap_BKhw: Tensor, present_BK: Tensor, boxes: Boxes) -> Tensor:
    inside_BKhw = draw_class_ellipses(boxes, *heatmap_BKhw.shape) > 0
    seen_BK = present_BK & inside_BKhw.any(dim=(2, 3))
    # Where nothing is seen all cells count as inside: the loss is 0 and its gradient too, without a NaN.
    inside_BKhw = inside_BKhw | ~seen_BK[:, :, None, None]
    within_BK = heatmap_BKhw.masked_fill(~inside_BKhw, -torch.inf).flatten(2).logsumexp(dim=2)
    losses_BK = heatmap_BKhw.flatten(2).logsumexp(dim=2) - within_BK
    num_B = seen_BK.sum(dim=1).clamp(min=1)
    return (losses_BK.sum(dim=1) / num_B).mean()
