"""Build SXMNet: a feature pyramid, an attention mask, a classifier a level, and their fusion.

Paper: B. Hu et al., "Multi-label X-ray Imagery Classification via Bottom-up Attention and Meta Fusion", ACCV 2020,
Section 3.2 and Figure 2. Written from the paper; no code of the authors is public. The pyramid is T.-Y. Lin et al.,
"Feature Pyramid Networks for Object Detection", CVPR 2017, as torchvision (BSD-3-Clause) has it.

At 224 px on ResNet-50 the levels p3, p4, p5 of the paper have 28, 14 and 7 cells a side and 256 features each; they are
levels 1, 2 and 3 here. Its heatmaps are class activation maps of the masked levels: the map of the level times the
mask, and the classifier's bias.

Shapes: B batch  D features  C colour  H W pixels of an image
"""

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from model.networks.attention_head import AttentionHead, refine_pyramid
from model.networks.chr import MapClassifier, classify_levels
from model.networks.config import AttentionConfig, ModelConfig
from model.networks.level_fusion import build_selection
from model.networks.output import NetworkOutput

PYRAMID_FEATURES = 256
"""Of each level, as in the paper of the pyramid; three of them are the 768 that Table 1 begins with."""


class PyramidNetwork(nn.Module):
    """Backbone and pyramid, an attention head (or none), a classifier a level, and a selection network (or none).

    The paper does not say whether levels share a classifier; here each has its own.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_features: list[int],
        num_classes: int,
        attention: AttentionConfig | None = None,
        selection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = FeaturePyramidNetwork(num_features, PYRAMID_FEATURES)
        self.attention = None if attention is None else AttentionHead(PYRAMID_FEATURES, attention)
        self.classifiers = nn.ModuleList(MapClassifier(PYRAMID_FEATURES, num_classes) for _ in num_features)
        self.selection = selection

    def forward(self, images_BCHW: Tensor) -> NetworkOutput:
        """Return logits, heatmaps, weights and mask; images are normalised as the config says."""
        levels = {str(level): features for level, features in enumerate(self.backbone(images_BCHW))}
        features = list(self.pyramid(levels).values())
        if self.attention is None:
            return classify_levels(features, self.classifiers, self.selection)
        mask_B1hw = self.attention(features[0], images_BCHW)
        output = classify_levels(refine_pyramid(features, mask_B1hw), self.classifiers, self.selection)
        return NetworkOutput(output.level_logits_LBK, output.heatmaps, output.log_weights_BL, mask_B1hw)


def pyramid(config: ModelConfig, backbone: nn.Module) -> nn.Module:
    """Return `fpn` (Res50-FPN of Tables 2, 3 and 8 if the backbone is ResNet-50), or with attention `sxmnet`."""
    num_features: list[int] = backbone.feature_info.channels()  # type: ignore[operator, union-attr, assignment]
    selection = build_selection(config.fusion, [PYRAMID_FEATURES] * len(num_features))
    return PyramidNetwork(backbone, num_features, len(config.classes), config.attention, selection)


def freeze_all_but_attention(network: nn.Module) -> None:
    """Freeze everything that the attention mask does not depend on.

    "Only parameters of backbone and the attention head are updated" (Section 3.2, stage I). The pyramid counts as
    backbone, as in Figure 2, except the output convolutions of its coarser levels, which do not feed the mask.
    """
    assert isinstance(network, PyramidNetwork)
    idle = [network.classifiers, *network.pyramid.layer_blocks[1:]]
    for part in idle if network.selection is None else [*idle, network.selection]:
        part.requires_grad_(False)
