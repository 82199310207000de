"""Build CHR as the authors' public code does, so that their checkpoints can be used.

Source: github.com/MeioJane/CHR, `CHR/models.py` (no licence given; written anew from what it computes). It differs from
the paper and from `model.networks.chr` in two points: each level's features pass a 1x1 convolution and ReLU of their
own before they are pooled (top level) or concatenated (the others), and the level below the top is concatenated with
the top's raw features. It evaluates the top level's logits alone, which here is the fusion `top`; with `average` the
prediction is the mean over levels, as in the paper.

It was written for ResNet-101 at 224 px, where its pools of 28, 14 and 7 cells are the mean over the map; here any
backbone with three levels and any size work the same way.

Shapes: B batch  K classes  L levels  D features  C colour  H W pixels of an image  h w cells of a level
"""

from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from model.networks.chr import MapClassifier, UpsampledMix, classify_levels
from model.networks.config import ModelConfig
from model.networks.level_fusion import build_selection
from model.networks.output import NetworkOutput


class AuthorsNetwork(nn.Module):
    """A backbone, a 1x1 convolution a level, a reversed connection between neighbours, a classifier a level."""

    def __init__(
        self,
        backbone: nn.Module,
        num_features: list[int],
        num_classes: int,
        align_corners: bool,
        selection: nn.Module | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.own = nn.ModuleList(nn.Conv2d(depth, depth, kernel_size=1) for depth in num_features)
        self.mixes = nn.ModuleList(
            UpsampledMix(below, above, below_first=False, align_corners=align_corners)
            for below, above in pairwise(num_features)
        )
        self.classifiers = nn.ModuleList(MapClassifier(depth, num_classes) for depth in num_features)
        self.selection = selection

    def forward(self, images_BCHW: Tensor) -> NetworkOutput:
        """Return logits and heatmaps of every level; images are normalised as the config says."""
        features = list(self.backbone(images_BCHW))
        own = [functional.relu(convolve(level)) for convolve, level in zip(self.own, features, strict=True)]
        refined, above = [own[-1]], features[-1]
        for level in reversed(range(len(self.mixes))):
            above = functional.relu(self.mixes[level](own[level], above))
            refined.insert(0, above)
        return classify_levels(refined, self.classifiers, self.selection)


def _authors(config: ModelConfig, backbone: nn.Module, align_corners: bool) -> nn.Module:
    if config.num_levels != 3:
        raise ValueError(f"num_levels must be 3 for the network {config.network!r}, got {config.num_levels}")
    if config.fusion not in ("average", "top"):
        raise ValueError(f"fusion must be 'average' or 'top' for the network {config.network!r}, got {config.fusion!r}")
    num_features: list[int] = backbone.feature_info.channels()  # type: ignore[operator, union-attr, assignment]
    selection = build_selection(config.fusion, num_features)
    return AuthorsNetwork(backbone, num_features, len(config.classes), align_corners, selection)


authors = partial(_authors, align_corners=False)
"""The graph as PyTorch from 0.4 on runs it: bilinear up-sampling by the cells' centres."""
authors_corners = partial(_authors, align_corners=True)
"""As PyTorch up to 0.3.1, which the authors name, runs it: bilinear up-sampling with the corner cells aligned."""
