"""Cast the weights of a network to bf16, except where digits matter."""

import copy

from torch import nn

from model.networks.chr import MapClassifier
from model.networks.level_fusion import SelectionNetwork


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
