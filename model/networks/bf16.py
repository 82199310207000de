"""Compute a network in bf16, except where digits or a processor's kernels forbid it.

Shapes: B batch  D features  h w cells
"""

import copy
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from model.networks.chr import MapClassifier
from model.networks.level_fusion import SelectionNetwork, without_autocast


def with_bf16_weights(network: nn.Module) -> nn.Module:
    """Return a copy that computes in bf16 without autocast, which casts all weights again for every batch.

    In float32 stay the classifiers and the weights of levels, whose outputs would tie in 8 bits of mantissa, and batch
    norms. Input: bf16 images; output: float32, as that of the network.
    """
    network = copy.deepcopy(network).bfloat16()
    for module in network.modules():
        if isinstance(module, MapClassifier | nn.BatchNorm2d):
            module.float()
        elif isinstance(module, SelectionNetwork):
            module.score.float()
    return network


def train_depthwise_in_float32(network: nn.Module) -> Callable[[], None]:
    """Let a processor's autocast pass over the depthwise convolutions that it trains slowly in bf16.

    oneDNN has no fast bf16 kernels for their gradients where they stride or are larger than 3x3: eight times the time
    of float32 for one layer of EfficientNet-lite0, so that bf16 trained more slowly than float32 (AVX512-BF16,
    `tests/bench/step.md`).

    Returns:
        A function that undoes it. Parameters, their names and the dtype of features stay as they are throughout.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d) and _trains_slowly(module)]
    for layer in layers:
        layer.forward = partial(_in_float32, layer.forward)  # type: ignore[method-assign]

    def undo() -> None:
        for layer in layers:
            del layer.forward

    return undo


def _trains_slowly(layer: nn.Conv2d) -> bool:
    is_depthwise = layer.groups == layer.in_channels > 1
    return is_depthwise and (max(layer.kernel_size) > 3 or max(layer.stride) > 1)


def _in_float32(forward: Callable[[Tensor], Tensor], features_BDhw: Tensor) -> Tensor:
    with without_autocast(features_BDhw.device.type):
        return forward(features_BDhw.float()).to(features_BDhw.dtype)
