"""Build CHR: features of several levels, refined from the top down, with a classifier on each.

Paper: C. Miao et al., "SIXray: A Large-scale Security Inspection X-ray Benchmark for Prohibited Item Discovery in
Overlapping Images", CVPR 2019, Section 4.2 and Figure 3. Written from the paper; the authors' code
(github.com/MeioJane/CHR) differs in these points: it has a 1x1 convolution with ReLU on each level's features before
they are concatenated or pooled, feeds the raw top features (not these) to the next level, and evaluates the top level
alone (`fc1`), while the paper averages all levels.

Shapes: B batch  K classes  L levels  D features  C colour  H W pixels of an image  h w cells of a level
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.config import ModelConfig
from model.networks.level_fusion import build_selection, without_autocast
from model.networks.output import NetworkOutput


class HierarchicalNetwork(nn.Module):
    """A backbone, L - 1 reversed connections (or none), L classifiers, and a selection network (or none)."""

    def __init__(
        self,
        backbone: nn.Module,
        num_features: list[int],
        num_classes: int,
        refine: bool,
        selection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.refiners = nn.ModuleList(Refiner(below, above) for below, above in pairwise(num_features) if refine)
        self.classifiers = nn.ModuleList(MapClassifier(depth, num_classes) for depth in num_features)
        self.selection = selection

    def forward(self, images_BCHW: Tensor) -> NetworkOutput:
        """Return logits and heatmaps of every level; images are normalised as the config says."""
        features = refine_downwards(list(self.backbone(images_BCHW)), self.refiners)
        return classify_levels(features, self.classifiers, self.selection)


def classify_levels(features: list[Tensor], classifiers: nn.ModuleList, selection: nn.Module | None) -> NetworkOutput:
    """Return the output for the features of all levels, finest first; without selection they weigh the same."""
    heatmaps = tuple(classify(level) for classify, level in zip(classifiers, features, strict=True))
    level_logits_LBK = torch.stack([heatmap.mean(dim=(2, 3)) for heatmap in heatmaps])
    return NetworkOutput(level_logits_LBK, heatmaps, None if selection is None else selection(features))


def refine_downwards(features: list[Tensor], refiners: nn.ModuleList) -> list[Tensor]:
    """Return the refined features: x~(L) = x(L), x~(l) = g(l)([x(l), up(x~(l+1))]); finest level first in both.

    Without refiners the features are returned as they are (`h` of Table 4).
    """
    refined = list(features)
    for level in reversed(range(len(refiners))):
        refined[level] = refiners[level](features[level], refined[level + 1])
    return refined


class Refiner(nn.Module):
    """g(l): a reversed connection between neighbouring levels.

    The paper gives the inputs, not the layers. Here: a 1x1 convolution over the concatenation and ReLU, as in the
    authors' code, back to the depth of the lower level (x~ has the dimensions of x, Section 4.1).
    """

    def __init__(self, num_below: int, num_above: int) -> None:
        super().__init__()
        self.mix = UpsampledMix(num_below, num_above)
        nn.init.kaiming_normal_(self.mix.weight, nonlinearity="relu")
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, below_BDhw: Tensor, above_BDhw: Tensor) -> Tensor:
        """Return the refined lower level, of the shape of `below_BDhw`."""
        return functional.relu(self.mix(below_BDhw, above_BDhw))


class UpsampledMix(nn.Conv2d):
    """A 1x1 convolution over the concatenation of a level and the up-sampled one above it, computed without either.

    The convolution is linear in channels and the bilinear up-sampling in places, so they commute:
    mix([x, up(y)]) = mix_x(x) + up(mix_y(y)), which takes a quarter of the arithmetic for the upper part.
    """

    def __init__(
        self, num_below: int, num_above: int, *, below_first: bool = True, align_corners: bool = False
    ) -> None:
        """Make a convolution back to the depth of the lower level.

        Args:
            num_below: depth of the lower level.
            num_above: depth of the level above it.
            below_first: whether the lower level's channels come first in the weights.
            align_corners: of the up-sampling; False: by the cells' centres.
        """
        super().__init__(num_below + num_above, num_below, kernel_size=1)
        below, above = slice(0, num_below), slice(num_below, None)
        if not below_first:
            below, above = slice(num_above, None), slice(0, num_above)
        self._below, self._above = below, above
        self._align_corners = align_corners

    def forward(self, below_BDhw: Tensor, above_BDhw: Tensor) -> Tensor:  # type: ignore[override]
        """Return the mixture, of the shape of `below_BDhw`."""
        small_BDhw = functional.conv2d(above_BDhw, self.weight[:, self._above])
        up_BDhw = functional.interpolate(
            small_BDhw, size=below_BDhw.shape[-2:], mode="bilinear", align_corners=self._align_corners
        )
        return functional.conv2d(below_BDhw, self.weight[:, self._below], self.bias) + up_BDhw


class MapClassifier(nn.Module):
    """h(l): a linear layer and global average pooling, in this order.

    Both are linear, so a 1x1 convolution before the average gives the same logits as a linear layer after it, and the
    map before the average is the class activation map: localisation needs no second pass. The CAM of the papers leaves
    out the classifier's bias. Here each cell includes it, so that the mean of a map is the level's logit exactly; it
    moves no peak within a level, but matters when levels are compared (`model.networks.peaks`).
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(num_features, num_classes, kernel_size=1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]

    def forward(self, features_BDhw: Tensor) -> Tensor:
        """Return the heatmaps (B, K, h, w), float32."""
        # With bf16's 8 bits of mantissa logits tie, which changes the order of scans: this layer stays in float32.
        with without_autocast(features_BDhw.device.type):
            heatmaps: Tensor = self.score(features_BDhw.to(self.score.weight.dtype))
        return heatmaps.float()


def plain(config: ModelConfig, backbone: nn.Module) -> nn.Module:
    """Return the baseline of Table 4: the top level alone."""
    if config.num_levels != 1:
        raise ValueError(f"num_levels must be 1 for the network 'plain', got {config.num_levels}")
    return _build(config, backbone, refine=False)


def hierarchical(config: ModelConfig, backbone: nn.Module) -> nn.Module:
    """Return `h` of Table 4: a classifier a level, no reversed connections."""
    return _build(config, backbone, refine=False)


def refined(config: ModelConfig, backbone: nn.Module) -> nn.Module:
    """Return `hr` of Table 4: a classifier a level, and reversed connections."""
    return _build(config, backbone, refine=True)


def _build(config: ModelConfig, backbone: nn.Module, refine: bool) -> nn.Module:
    num_features: list[int] = backbone.feature_info.channels()  # type: ignore[operator, union-attr, assignment]
    selection = build_selection(config.fusion, num_features)
    return HierarchicalNetwork(backbone, num_features, len(config.classes), refine, selection)
