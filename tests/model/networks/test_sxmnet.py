from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from model.networks.attention_head import AttentionHead, UpsampleModule, refine_pyramid
from model.networks.config import AttentionConfig, ModelConfig
from model.networks.level_fusion import SelectionNetwork
from model.networks.output import NetworkOutput
from model.networks.registry import build_network, count_parameters
from model.networks.sxmnet import PyramidNetwork, freeze_all_but_attention
from tests.model.networks.test_registry import GivenFeatures

CONFIG = ModelConfig(
    network="sxmnet",
    backbone="resnet50",
    classes=("Gun", "Knife", "Wrench", "Pliers", "Scissors"),
    fusion="meta",
    attention=AttentionConfig(),
)
BACKBONE = 23_508_032  # ResNet-50 without its classifier
PYRAMID = (512 + 1024 + 2048) * 256 + 3 * 256 + 3 * (256 * 256 * 9 + 256)
CLASSIFIERS = 3 * 5 * (256 + 1)
SELECTION = (768 + 256 + 256) * 256 * 9 + 3 * 256 + 3 * (256 + 1)  # Table 1


def convolutions(num_inputs, num_outputs):
    """Parameters of an upsample module."""
    return (num_inputs + 64 + 64) * 64 * 9 + 3 * 64 + num_outputs * (64 + 1)


ATTENTION = {
    AttentionConfig(num_upsamples=0): 256 + 1,
    AttentionConfig(num_upsamples=1): convolutions(256 + 3, 1),
    AttentionConfig(num_upsamples=1, sees_image=False): convolutions(256, 1),
    AttentionConfig(num_upsamples=2): convolutions(256 + 3, 64) + convolutions(64 + 3, 1),
}


@pytest.mark.parametrize(("attention", "side"), list(zip(ATTENTION, (28, 56, 56, 112), strict=True)))
def test_sizes_and_parameters_of_sxmnet_are_those_written_down(attention, side):
    with torch.device("meta"):
        network = build_network(replace(CONFIG, attention=attention)).eval()
        output = network(torch.rand(1, 3, 224, 224))
    assert [tuple(heatmap.shape) for heatmap in output.heatmaps] == [(1, 5, cells, cells) for cells in (28, 14, 7)]
    assert output.attention_B1hw.shape == (1, 1, side, side)  # Table 6
    assert output.log_weights_BL.shape == (1, 3)
    assert count_parameters(network) == BACKBONE + PYRAMID + CLASSIFIERS + SELECTION + ATTENTION[attention]


def test_parameters_of_the_plain_pyramid_and_of_chr_with_meta_fusion_are_those_written_down():
    with torch.device("meta"):
        fpn = build_network(replace(CONFIG, network="fpn", attention=None, fusion="average"))
        chr_meta = build_network(replace(CONFIG, network="chr", attention=None))
        chr_plain = build_network(replace(CONFIG, network="chr", attention=None, fusion="average"))
    assert count_parameters(fpn) == BACKBONE + PYRAMID + CLASSIFIERS
    # CHR's levels have 512, 1024 and 2048 features rather than three times 256
    assert count_parameters(chr_meta) - count_parameters(chr_plain) == SELECTION + (3584 - 768) * 256 * 9


@pytest.mark.parametrize("backbone", ["resnet18", "inception_v3", "densenet121"])
def test_any_backbone_with_three_levels_carries_sxmnet(backbone):
    with torch.device("meta"):
        network = build_network(replace(CONFIG, backbone=backbone)).eval()
        output = network(torch.rand(2, 3, 224, 224))
    assert output.logits_BK.shape == (2, 5)


def make_output(level_logits, scores):
    return NetworkOutput(level_logits, (), scores.log_softmax(dim=1))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), num_levels=st.integers(1, 4), num_scans=st.integers(1, 4))
def test_the_fused_prediction_is_equation_2(seed, num_levels, num_scans):
    rng = np.random.default_rng(seed)
    logits, scores = rng.normal(size=(num_levels, num_scans, 2)), rng.normal(size=(num_scans, num_levels))
    expected = np.zeros((num_scans, 2))
    for scan in range(num_scans):
        total = sum(np.exp(scores[scan, level]) for level in range(num_levels))
        for c in range(2):
            for level in range(num_levels):
                expected[scan, c] += np.exp(scores[scan, level]) / total * logits[level, scan, c]
    found = make_output(torch.from_numpy(logits), torch.from_numpy(scores)).logits_BK
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_equal_weights_are_equation_1():
    level_logits = torch.randn(3, 4, 2, dtype=torch.float64)
    plain = NetworkOutput(level_logits, ()).logits_BK
    torch.testing.assert_close(plain, sum(level_logits) / 3)
    torch.testing.assert_close(make_output(level_logits, torch.zeros(4, 3, dtype=torch.float64)).logits_BK, plain)


def test_the_gradient_of_equation_2_equals_finite_differences():
    level_logits = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: make_output(a, b).logits_BK, (level_logits, scores))


def test_an_output_survives_its_named_tensors():
    output = NetworkOutput(
        torch.randn(2, 3, 4),
        (torch.randn(3, 4, 5, 5), torch.randn(3, 4, 2, 2)),
        torch.randn(3, 2).log_softmax(dim=1),
        torch.rand(3, 1, 8, 8),
    )
    again = NetworkOutput.from_named(dict(output.named_tensors()))
    for (name, one), (other_name, other) in zip(output.named_tensors(), again.named_tensors(), strict=True):
        assert name == other_name
        torch.testing.assert_close(one, other)


def convolve(x, layer, dilation, padding):
    """A convolution as loops over kernel places: x (D, h, w), weight (E, D, k, k)."""
    weight, bias = arrays(layer)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    reach = dilation * (weight.shape[2] - 1)
    height, width = padded.shape[1] - reach, padded.shape[2] - reach
    total = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            part = padded[:, row * dilation : row * dilation + height, column * dilation : column * dilation + width]
            total += np.einsum("ed,dhw->ehw", weight[:, :, row, column], part)
    return total


def arrays(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def pool(x, side):
    """The mean of each of side x side equal blocks; x (D, h, w) with h and w multiples of side."""
    return x.reshape(len(x), side, x.shape[1] // side, side, x.shape[2] // side).mean(axis=(2, 4))


def test_the_selection_network_is_table_1():
    torch.manual_seed(0)
    network = SelectionNetwork([4, 5]).double()
    fine, coarse = torch.randn(1, 4, 14, 14).double(), torch.randn(1, 5, 7, 7).double()
    hidden = np.concatenate([pool(fine[0].numpy(), 7), coarse[0].numpy()])
    for layer, side in zip(network.convolutions, (5, 3, 1), strict=True):
        hidden = np.maximum(convolve(hidden, layer, dilation=1, padding=0), 0)
        assert hidden.shape == (256, side, side)
    weight, bias = arrays(network.score)
    scores = weight @ hidden.mean(axis=(1, 2)) + bias
    found = network([fine, coarse]).exp()[0].detach().numpy()
    np.testing.assert_allclose(found, np.exp(scores) / np.exp(scores).sum(), rtol=1e-5)  # the output is float32


@pytest.mark.parametrize("sees_image", [True, False])
def test_an_upsample_module_is_what_section_3_2_says(sees_image):
    torch.manual_seed(0)
    module = UpsampleModule(2, 1, sees_image).double()
    features, images = torch.randn(1, 2, 4, 4).double(), torch.randn(1, 3, 32, 32).double()
    joined = np.concatenate([features[0], pool(images[0].numpy(), 4)]) if sees_image else features[0].numpy()
    hidden = upsample_twice(joined)
    for layer in module.convolutions:
        hidden = np.maximum(convolve(hidden, layer, dilation=2, padding=2), 0)
    expected = convolve(hidden, module.output, dilation=1, padding=0)
    np.testing.assert_allclose(module(features, images)[0].detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def upsample_twice(x):
    """Bilinear, cell centres kept in place (D, h, w)."""
    depth, height, width = x.shape
    out = np.zeros((depth, 2 * height, 2 * width))
    for row in range(2 * height):
        for column in range(2 * width):
            y, z = max((row + 0.5) / 2 - 0.5, 0), max((column + 0.5) / 2 - 0.5, 0)
            top, left = int(y), int(z)
            down, right = min(top + 1, height - 1), min(left + 1, width - 1)
            dy, dz = y - top, z - left
            out[:, row, column] = (1 - dy) * ((1 - dz) * x[:, top, left] + dz * x[:, top, right]) + dy * (
                (1 - dz) * x[:, down, left] + dz * x[:, down, right]
            )
    return out


def test_each_level_is_multiplied_with_the_mask_over_its_cells():
    mask = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    levels = [torch.randn(2, 3, side, side, dtype=torch.float64) for side in (8, 4, 2)]
    for level, refined in zip(levels, refine_pyramid(levels, mask), strict=True):
        cells = 8 // level.shape[-1]
        for row in range(level.shape[-1]):
            for column in range(level.shape[-1]):
                block = mask[:, :, row * cells : (row + 1) * cells, column * cells : (column + 1) * cells]
                expected = level[:, :, row, column] * block.mean(dim=(2, 3))
                torch.testing.assert_close(refined[:, :, row, column], expected)


def test_the_mask_lies_between_0_and_1_and_its_modules_follow_one_another():
    head = AttentionHead(4, AttentionConfig(num_upsamples=2))
    features, images = torch.randn(1, 4, 4, 4), torch.randn(1, 3, 32, 32)
    first, second = head.upsamples
    expected = second(first(features, images), images).sigmoid()
    torch.testing.assert_close(head(features, images), expected)
    assert AttentionHead(4, AttentionConfig(num_upsamples=0))(features, images).shape == (1, 1, 4, 4)


def test_the_pyramid_is_lateral_convolutions_added_from_the_top_down_and_the_heatmaps_are_of_masked_levels():
    torch.manual_seed(0)
    given = [torch.randn(1, depth, side, side) for depth, side in ((4, 8), (6, 4), (8, 2))]
    network = PyramidNetwork(GivenFeatures(given), [4, 6, 8], 5, AttentionConfig(num_upsamples=0))
    assert network.attention is not None
    lateral = [block(features) for block, features in zip(network.pyramid.inner_blocks, given, strict=True)]
    merged = [None, None, lateral[2]]
    for level in (1, 0):
        merged[level] = lateral[level] + functional.interpolate(merged[level + 1], scale_factor=2, mode="nearest")
    levels = [block(features) for block, features in zip(network.pyramid.layer_blocks, merged, strict=True)]
    mask = network.attention(levels[0], torch.zeros(1, 3, 64, 64))
    output = network(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(output.attention_B1hw, mask)
    refined = refine_pyramid(levels, mask)
    for found, features, classify in zip(output.heatmaps, refined, network.classifiers, strict=True):
        torch.testing.assert_close(found, classify(features))
    torch.testing.assert_close(output.level_logits_LBK[1], output.heatmaps[1].mean(dim=(2, 3)))


def test_stage_one_adjusts_just_what_the_mask_depends_on():
    network = build_network(replace(CONFIG, backbone="resnet18"))
    freeze_all_but_attention(network)
    network(torch.rand(2, 3, 64, 64)).attention_B1hw.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        if name.startswith(("backbone", "attention", "pyramid.inner")):
            assert parameter.requires_grad, name


def test_weights_and_mask_stay_float32_under_autocast():
    network = build_network(replace(CONFIG, backbone="resnet18")).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = network(torch.rand(1, 3, 64, 64))
    assert output.log_weights_BL.dtype == output.attention_B1hw.dtype == torch.float32
    assert not torch.equal(output.log_weights_BL, output.log_weights_BL.bfloat16().float())
