"""Build a network from its config.

Shapes: K classes
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.networks import chr as chr_net
from model.networks import chr_reference, sxmnet
from model.networks.backbones import build_backbone
from model.networks.config import ModelConfig
from model.networks.level_fusion import SelectionNetwork
from model.networks.output import NetworkOutput

__all__ = ["NETWORKS", "ModelConfig", "NetworkOutput", "build_network", "count_parameters"]

NETWORKS: dict[str, Callable[[ModelConfig, nn.Module], nn.Module]] = {
    "plain": chr_net.plain,
    "h": chr_net.hierarchical,
    "ch": chr_net.hierarchical,
    "hr": chr_net.refined,
    "chr": chr_net.refined,
    "chr_authors": chr_reference.authors,
    "chr_authors_corners": chr_reference.authors_corners,
    "fpn": sxmnet.pyramid,
    "sxmnet": sxmnet.pyramid,
}
"""Name -> function of config and backbone that returns a module with `forward(images_BCHW) -> NetworkOutput`.

To add a network, write such a function and list it here.

`plain` to `chr` are the names of the CHR paper's Table 4: h hierarchy (a classifier a level), r refinement (reversed
connections), c class-balanced loss. `c` changes training only: `ch` is built as `h`, `chr` as `hr`. `chr_authors` is
the graph of the authors' code, for their checkpoints (`_corners`: with the up-sampling of their PyTorch version). `fpn`
and, with an attention head, `sxmnet` are of the SXMNet paper. `ModelConfig.fusion` works with all; the authors' take no
selection network.
"""


def build_network(config: ModelConfig, *, pretrained: bool = False, weights_file: str | None = None) -> nn.Module:
    """Return a network with fresh heads.

    Args:
        config: which network, backbone, classes and levels.
        pretrained: start the backbone from ImageNet weights (`model.networks.weights`); else random.
        weights_file: the safetensors file that has them, under timm's names; None: an installed package or timm's hub.

    Raises:
        ValueError: a name is unknown, the backbone lacks levels or does not take images of this size, or its weights
            cannot be loaded.
    """
    if config.network not in NETWORKS:
        raise ValueError(f"network must be one of {sorted(NETWORKS)}, got {config.network!r}")
    backbone = build_backbone(
        config.backbone,
        config.num_levels,
        image_size_px=config.input.size_px,
        complete_levels=config.complete_levels,
        pretrained=pretrained,
        weights_file=weights_file,
    )
    return NETWORKS[config.network](config, backbone)


def start_at_prior(network: nn.Module, log_prior_K: Tensor) -> None:
    """Set the bias of every level's classifier to the log prior of its class, in place.

    From 0 the optimizer would need more steps than a short run has to move it there, and meanwhile the lower levels
    would push the shift through the backbone.

    Source:
        T.-Y. Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), Section 3.3.
    """
    for module in network.modules():
        if isinstance(module, chr_net.MapClassifier):
            with torch.no_grad():
                module.score.bias.copy_(log_prior_K)  # type: ignore[union-attr]


def fully_connected_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the layers that the papers call fully connected.

    These are the levels' classifiers and the last layer of the selection network.
    """
    layers = [
        module.score for module in network.modules() if isinstance(module, chr_net.MapClassifier | SelectionNetwork)
    ]
    return [parameter for layer in layers for parameter in layer.parameters()]


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())
