"""Registers with timm a residual network of about three thousand parameters, so that fixtures of it stay small."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

NAME = "golden_resnet"

default_cfgs = generate_default_cfgs(
    {f"{NAME}.untrained": {"input_size": (3, 64, 64), "first_conv": "conv1.0", "classifier": "fc"}}
)


@register_model
def golden_resnet(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """Return a ResNet of one block a stage; strides 2 to 32 as all of its kind."""
    shape: dict[str, Any] = {
        "block": BasicBlock,
        "layers": (1, 1, 1, 1),
        "stem_type": "deep",
        "stem_width": 2,
        "channels": (4, 4, 8, 8),
    }
    network: ResNet = build_model_with_cfg(ResNet, NAME, pretrained, **(shape | kwargs))
    return network
