"""Which layers of a network bf16 passes over."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.networks.bf16 import train_depthwise_in_float32


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, kernel_size=1),
        nn.Conv2d(8, 8, kernel_size=5, padding=2, groups=8),
        nn.Conv2d(8, 8, kernel_size=3, stride=2, groups=8),
        nn.Conv2d(8, 8, kernel_size=3, groups=8),
        nn.Conv2d(8, 4, kernel_size=3, stride=2, groups=4),
    )


def dtypes_of_layers(network: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Return the dtype that each layer's convolution computes in under autocast."""
    found = []
    convolve = nn.Conv2d._conv_forward

    def record(layer: nn.Conv2d, *arguments: Any) -> Tensor:
        output_BDhw: Tensor = convolve(layer, *arguments)
        found.append(output_BDhw.dtype)
        return output_BDhw

    with monkeypatch.context() as patched, torch.autocast("cpu", torch.bfloat16):
        patched.setattr(nn.Conv2d, "_conv_forward", record)
        network(torch.randn(2, 3, 12, 12))
    return found


def test_large_and_striding_depthwise_convolutions_compute_in_float32_until_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = make_network()
    all_bf16 = dtypes_of_layers(network, monkeypatch)
    undo = train_depthwise_in_float32(network)
    mixed = dtypes_of_layers(network, monkeypatch)
    undo()
    assert all_bf16 == dtypes_of_layers(network, monkeypatch) == [torch.bfloat16] * 5
    # Small ones, and grouped ones that mix channels, have fast kernels in bf16.
    assert mixed == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]


def test_depthwise_layers_in_float32_keep_the_dtype_of_features_and_the_names_of_weights() -> None:
    network = make_network()
    names = list(network.state_dict())
    train_depthwise_in_float32(network)
    with torch.autocast("cpu", torch.bfloat16):
        features_BDhw = network[:2](torch.randn(2, 3, 12, 12))
    assert features_BDhw.dtype == torch.bfloat16
    assert list(network.state_dict()) == names


def test_gradients_in_mixed_formats_are_those_of_float32_within_eight_bits() -> None:
    network, images_BCHW = make_network(), torch.randn(2, 3, 12, 12)
    mixed = copy.deepcopy(network)
    train_depthwise_in_float32(mixed)
    copied = copy.deepcopy(mixed)  # what is copied computes with its own weights
    network(images_BCHW).square().mean().backward()
    for other in (mixed, copied):
        with torch.autocast("cpu", torch.bfloat16):
            other(images_BCHW).float().square().mean().backward()
        for name, parameter in network.named_parameters():
            found = other.get_parameter(name).grad
            assert found is not None and parameter.grad is not None
            scale = float(parameter.grad.abs().max())
            assert float((found - parameter.grad).abs().max()) == pytest.approx(0, abs=0.05 * scale), name
