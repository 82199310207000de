"""Batch norms are folded only if the output stays the same."""

import pytest
import torch
from torch import nn

from model.networks.config import InputConfig, ModelConfig
from model.networks.output import NetworkOutput
from model.networks.registry import build_network
from model.scoring.batchnorm_folding import fold_batch_norms


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def shake(network):
    """Give batch norms statistics as training does: fresh ones are the identity, and folding them proves nothing."""
    generator = torch.Generator().manual_seed(0)
    for norm in norms_of(network):
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    return network.eval()


# The stem of resnet10t is a list of convolutions: the norm behind that list stays.
@pytest.mark.parametrize(("backbone", "num_left"), [("resnet10t", 1), ("resnet18", 0)])
def test_a_resnet_loses_its_batch_norms_and_keeps_its_output(backbone, num_left):
    torch.manual_seed(0)
    network = shake(build_network(ModelConfig(backbone=backbone, classes=("a", "b"), input=InputConfig(size_px=64))))
    num_norms = len(norms_of(network))
    folded = fold_batch_norms(network, 64)
    assert len(norms_of(folded)) == num_left and len(norms_of(network)) == num_norms > 10
    images_BCHW = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images_BCHW).logits_BK, network(images_BCHW).logits_BK, atol=1e-4, rtol=1e-4)


class Net(nn.Module):
    """A convolution and a norm, in any order or with an activation inside the norm."""

    def __init__(self, norm, norm_first=False):
        super().__init__()
        self.conv, self.norm, self.norm_first = nn.Conv2d(3, 3, 1), norm, norm_first

    def forward(self, images_BCHW):
        layers = (self.norm, self.conv) if self.norm_first else (self.conv, self.norm)
        heatmap = layers[1](layers[0](images_BCHW))
        return NetworkOutput(heatmap.mean(dim=(2, 3))[None], (heatmap,))


class NormWithActivation(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize("network", [Net(nn.BatchNorm2d(3), norm_first=True), Net(NormWithActivation(3))])
def test_a_norm_in_another_place_or_with_an_activation_is_left(network):
    folded = fold_batch_norms(shake(network), 32)
    assert len(norms_of(folded)) == 1
    images_BCHW = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(folded(images_BCHW).logits_BK, network(images_BCHW).logits_BK)
