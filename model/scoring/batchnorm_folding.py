"""Can a network be made smaller without changing what it says? Batch norms folded into the convolutions before them.

In inference a batch norm multiplies and adds, as a convolution's weights and bias can: one pass over the activations
less a layer, 5 to 10 % of a ResNet's time on a CPU.
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.networks.output import NetworkOutput

_TOLERANCE = 1e-4


def fold_batch_norms(network: nn.Module, image_size_px: int) -> nn.Module:
    """Return a copy in eval mode with its batch norms folded, or one as it is where the folded one is not equal.

    A batch norm that stands behind a convolution in a module's list need not stand behind it in `forward`: so the
    folded copy is held against the network on images of noise.
    """
    folded = _fold_children(copy.deepcopy(network).eval())
    images_BCHW = torch.randn(1, 3, image_size_px, image_size_px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = _are_near(network(images_BCHW), folded(images_BCHW))
    return folded if same else copy.deepcopy(network).eval()


def _fold_children(module: nn.Module) -> nn.Module:
    for (name, layer), (norm_name, norm) in pairwise(list(module.named_children())):
        # By its very type: a subclass may hold an activation too, as timm's do.
        if type(layer) is nn.Conv2d and type(norm) is nn.BatchNorm2d and layer.out_channels == norm.num_features:
            setattr(module, name, fuse_conv_bn_eval(layer, norm))
            setattr(module, norm_name, nn.Identity())
    for _, child in module.named_children():
        _fold_children(child)
    return module


def _are_near(one: NetworkOutput, other: NetworkOutput) -> bool:
    return all(
        torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE)
        for (_, a), (_, b) in zip(one.named_tensors(), other.named_tensors(), strict=True)
    )
