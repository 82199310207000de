"""Build the bottom-up attention head of SXMNet, and mask the pyramid with it.

Paper: B. Hu et al., "Multi-label X-ray Imagery Classification via Bottom-up Attention and Meta Fusion", ACCV 2020,
Section 3.2, Figure 2. Written from the paper; no code of the authors is public. The paper lists the parts of an
upsample module (a bilinear layer, several dilated convolutions, a 1x1 convolution), not their sizes: three convolutions
of 64 features with dilation 2, ReLU after each, and a sigmoid over the last output are ours.

"From the last feature maps of the backbone" could mean the coarsest level. But Figure 6 has masks of 28, 56 and 112
cells after 0, 1 and 2 modules, so it is the level that a pyramid computes last, the finest one (28 cells at 224 px).

Shapes: B batch  D features  C colour  H W pixels of an image  h w cells
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.config import AttentionConfig

HIDDEN_FEATURES = 64
NUM_CONVOLUTIONS = 3
DILATION = 2
_COLOURS = 3


class AttentionHead(nn.Module):
    """A chain of upsample modules, or a 1x1 convolution alone if there are none."""

    def __init__(self, num_features: int, config: AttentionConfig) -> None:
        super().__init__()
        between = [HIDDEN_FEATURES] * (config.num_upsamples - 1)
        depths = [num_features, *between, 1] if config.num_upsamples else []
        self.upsamples = nn.ModuleList(
            UpsampleModule(below, above, config.sees_image) for below, above in pairwise(depths)
        )
        self.score = nn.Identity() if config.num_upsamples else nn.Conv2d(num_features, 1, kernel_size=1)

    def forward(self, finest_BDhw: Tensor, images_BCHW: Tensor) -> Tensor:
        """Return the mask (B, 1, h 2^n, w 2^n), float32 in [0, 1], of n upsample modules."""
        features_BDhw = finest_BDhw
        for upsample in self.upsamples:
            features_BDhw = upsample(features_BDhw, images_BCHW)
        mask_B1hw: Tensor = self.score(features_BDhw).float().sigmoid()
        return mask_B1hw


class UpsampleModule(nn.Module):
    """Concatenates the image, upsamples bilinearly to twice the side, and convolves: dilated, then 1x1."""

    def __init__(self, num_inputs: int, num_outputs: int, sees_image: bool) -> None:
        super().__init__()
        self.sees_image = sees_image
        first = num_inputs + (_COLOURS if sees_image else 0)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(depth, HIDDEN_FEATURES, kernel_size=3, padding=DILATION, dilation=DILATION)
            for depth in (first, *[HIDDEN_FEATURES] * (NUM_CONVOLUTIONS - 1))
        )
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.output = nn.Conv2d(HIDDEN_FEATURES, num_outputs, kernel_size=1)

    def forward(self, features_BDhw: Tensor, images_BCHW: Tensor) -> Tensor:
        """Return features (B, outputs, 2h, 2w); the image is normalised as for the backbone."""
        joined = [features_BDhw]
        if self.sees_image:
            joined.append(rescale(images_BCHW, features_BDhw).to(features_BDhw.dtype))
        hidden_BDhw = functional.interpolate(
            torch.cat(joined, dim=1), scale_factor=2, mode="bilinear", align_corners=False
        )
        for convolution in self.convolutions:
            hidden_BDhw = functional.relu(convolution(hidden_BDhw))
        output: Tensor = self.output(hidden_BDhw)
        return output


def refine_pyramid(features: Sequence[Tensor], mask_B1hw: Tensor) -> list[Tensor]:
    """Return each level times the mask rescaled to its size.

    "Pyramid features are multiplied with [their] corresponding attention mask" (Section 3.2); rescaling by the mean
    over each cell is ours.
    """
    return [level_BDhw * rescale(mask_B1hw, level_BDhw).to(level_BDhw.dtype) for level_BDhw in features]


def rescale(values_BDhw: Tensor, like_BDhw: Tensor) -> Tensor:
    """Return `values_BDhw` at the height and width of `like_BDhw`, each cell the mean over its area."""
    return functional.adaptive_avg_pool2d(values_BDhw, like_BDhw.shape[-2:])  # type: ignore[arg-type]
