"""Build a backbone: any timm network, cut at its last L levels of resolution."""

from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import timm
import torch
from timm.models import EfficientNet
from timm.models._features import FeatureInfo
from timm.models.densenet import DenseTransition
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from model.networks.weights import Create, pretrained_creator

_META: dict[str, Any] = {"device": "meta"}


def build_backbone(
    name: str,
    num_levels: int,
    *,
    image_size_px: int = 224,
    complete_levels: bool = False,
    pretrained: bool = False,
    weights_file: str | None = None,
) -> nn.Module:
    """Return a module that returns a list of `num_levels` feature maps (B, D, h, w), finest first.

    `feature_info.channels()` has the depth of each. ResNets, Inception-v3 and DenseNet-121 give strides 8, 16
    and 32 for three levels, the 28x28, 14x14 and 7x7 of the CHR paper (Section 5.1) at 224 px.

    Args:
        name: of a timm network, e.g. `resnet34` or `resnet34.a1_in1k`.
        num_levels: number of last levels to return.
        image_size_px: side of the images; networks with attention are built for one size.
        complete_levels: add the layers between a level and what the whole network does with it, where timm's features
            end before them: DenseNet's norm and ReLU, EfficientNet's last 1x1 convolution (`conv_head`).
        pretrained: load ImageNet weights, see `model.networks.weights`.
        weights_file: the safetensors file that has them; None: a package or timm's hub.

    Raises:
        ValueError: the network is unknown, has too few levels of growing stride or does not take the image size, or
            the weights are absent or do not fit.
    """
    options = _choose_options(name, num_levels, image_size_px)
    create: Create = partial(timm.create_model, name, pretrained=False)
    if pretrained or weights_file is not None:
        create = pretrained_creator(name, weights_file)
    backbone = _channels_first(create(**options))
    return _complete(backbone, create) if complete_levels else backbone


def _complete(backbone: nn.Module, create: Create) -> nn.Module:
    if any(isinstance(module, DenseTransition) for module in backbone.children()):
        return NormedDenseNet(backbone)
    if isinstance(backbone, EfficientNetFeatures):
        whole = create(num_classes=0)
        if isinstance(whole, EfficientNet):  # others pool before their head
            return HeadedEfficientNet(backbone, whole)
    return backbone


class NormedDenseNet(nn.Module):
    """A DenseNet whose levels end with the norm and ReLU of the transition below them, as the last one always does."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.feature_info = body.feature_info

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return the features, finest level first."""
        features: list[Tensor] = []
        x_BDhw, name_before = images_BCHW, ""
        for name, module in self.body.named_children():
            if isinstance(module, DenseTransition):
                x_BDhw = module.norm(x_BDhw)  # with its ReLU
                if name_before in self.body.return_layers:  # type: ignore[operator]
                    features.append(x_BDhw)
                x_BDhw = module.pool(module.conv(x_BDhw))
            else:
                x_BDhw = module(x_BDhw)
                if name in self.body.return_layers and "denseblock" not in name:  # type: ignore[operator]
                    features.append(x_BDhw)
            name_before = name
        return features


class HeadedEfficientNet(nn.Module):
    """An EfficientNet whose last level ends with `conv_head`, the 1x1 convolution before its pool."""

    def __init__(self, body: nn.Module, whole: EfficientNet) -> None:
        super().__init__()
        self.body = body
        self.conv_head, self.norm_head = whole.conv_head, whole.bn2
        levels = [dict(level) for level in body.feature_info.info]  # type: ignore[union-attr]
        levels[-1]["num_chs"] = whole.num_features
        self.feature_info = FeatureInfo(levels, body.feature_info.out_indices)  # type: ignore[union-attr]

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return the features, finest level first."""
        *lower, top_BDhw = self.body(images_BCHW)
        return [*lower, self.norm_head(self.conv_head(top_BDhw))]


class ChannelsFirst(nn.Module):
    """A backbone with feature maps (B, h, w, D), such as Swin, that returns them as (B, D, h, w) like all others."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.feature_info = body.feature_info

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return the features, finest level first."""
        return [features_BhwD.permute(0, 3, 1, 2) for features_BhwD in self.body(images_BCHW)]


def _channels_first(backbone: nn.Module) -> nn.Module:
    return ChannelsFirst(backbone) if getattr(backbone, "output_fmt", None) == "NHWC" else backbone


def _choose_options(name: str, num_levels: int, image_size_px: int) -> dict[str, Any]:
    """Return the arguments for timm; ValueError if the network lacks the levels or does not take the image size."""
    probe = _probe(name, image_size_px)
    strides = probe.strides
    if num_levels > len(strides):
        raise ValueError(f"num_levels must be <= {len(strides)}, the levels of {name!r}, got {num_levels}")
    if any(finer >= coarser for finer, coarser in pairwise(strides[-num_levels:])):
        raise ValueError(
            f"backbone must have {num_levels} levels of growing stride, got {list(strides[-num_levels:])} ({name!r}); "
            f"choose a network that halves its maps from stage to stage"
        )
    if probe.refusal:
        raise ValueError(
            f"image_size_px must be one that the backbone {name!r} takes, got {image_size_px}: {probe.refusal}; "
            f"choose another size, or a backbone that takes any, e.g. resnet34"
        )
    return probe.options | {"out_indices": tuple(range(len(strides) - num_levels, len(strides)))}


class _Probe(NamedTuple):
    options: dict[str, Any]
    strides: tuple[int, ...]
    refusal: str
    """The error of a forward pass; empty if there is none."""


@cache
def _probe(name: str, image_size_px: int) -> _Probe:
    """Try a network on the meta device, where nothing is allocated or computed."""
    options: dict[str, Any] = {"features_only": True, "img_size": image_size_px}
    try:
        try:
            network = timm.create_model(name, pretrained=False, **options, **_META)
        except TypeError:  # most networks take any size and lack this argument
            del options["img_size"]
            network = timm.create_model(name, pretrained=False, **options, **_META)
    except (RuntimeError, AttributeError, AssertionError, KeyError) as error:
        raise ValueError(f"backbone must be a timm network with feature levels, got {name!r}: {error}") from error
    refusal = ""
    try:
        with torch.no_grad():
            _channels_first(network.eval())(torch.empty(1, 3, image_size_px, image_size_px, **_META))
    except (RuntimeError, AssertionError, ValueError) as error:
        refusal = str(error) or repr(error)
    return _Probe(options, tuple(network.feature_info.reduction()), refusal)
