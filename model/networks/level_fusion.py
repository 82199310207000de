"""Build the selection network of SXMNet, which weighs the levels of any network with several.

Paper: B. Hu et al., "Multi-label X-ray Imagery Classification via Bottom-up Attention and Meta Fusion", ACCV 2020,
Section 3.2, Figure 3 and Table 1. Written from the paper; no code of the authors is public.

Its fusions are `average` (Eq. 1: no network at all), `gated` and `meta` (Eq. 2). The last two are one network; they
differ in whether its weights are trained with labels (L_meta of Eq. 4) or by the classification alone.

Shapes: B batch  L levels  D features  h w cells of a level
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

POOLED_CELLS = 7
"""Each level is pooled to 7x7 before concatenation (Section 3.2); three convolutions reduce it to one cell."""
HIDDEN_FEATURES = 256


def build_selection(fusion: str, num_features: Sequence[int]) -> nn.Module | None:
    """Return what weighs levels of these depths, None if by `fusion` (one of `FUSIONS`) they weigh the same."""
    if fusion == "average":
        return None
    return TopLevelAlone() if fusion == "top" else SelectionNetwork(num_features)


class TopLevelAlone(nn.Module):
    """Weighs the top level with 1 and the others with 0, as the authors' code of CHR rates its output `fc1`."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logarithms of the weights (B, L), float32, of levels (B, D, h, w), finest first."""
        weights_BL = features[0].new_zeros(features[0].shape[0], len(features), dtype=torch.float32)
        weights_BL[:, -1] = 1
        return weights_BL.log()


class SelectionNetwork(nn.Module):
    """Table 1: three convolutions over all levels together, a linear layer, soft-max.

    Three levels of a pyramid have the table's 768 features; other networks concatenate what they have. The table does
    not give the padding; here there is none, as in the network it is taken from (C. Zhu et al., "Soft Anchor-Point
    Object Detection", 2019): 7 cells become 5, 3 and 1, and the average pooling of Figure 3 is over one cell. Pooling
    to 7x7 by the mean is ours.
    """

    def __init__(self, num_features: Sequence[int]) -> None:
        super().__init__()
        depths = (sum(num_features), HIDDEN_FEATURES, HIDDEN_FEATURES, HIDDEN_FEATURES)
        self.convolutions = nn.ModuleList(nn.Conv2d(below, above, kernel_size=3) for below, above in pairwise(depths))
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.score = nn.Linear(HIDDEN_FEATURES, len(num_features))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logarithms of the weights (B, L), float32, of levels (B, D, h, w), finest first."""
        pooled = [functional.adaptive_avg_pool2d(level_BDhw, POOLED_CELLS) for level_BDhw in features]
        hidden_BD11 = torch.cat(pooled, dim=1)
        for convolution in self.convolutions:
            hidden_BD11 = functional.relu(convolution(hidden_BD11))
        hidden_BD = hidden_BD11.mean(dim=(2, 3))
        # The weights multiply logits, so they need the same precision.
        with without_autocast(hidden_BD.device.type):
            scores_BL: Tensor = self.score(hidden_BD.to(self.score.weight.dtype))
        return scores_BL.float().log_softmax(dim=1)


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context in which a layer computes in its weights' own dtype."""
    if device_type in ("cpu", "cuda") and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
