"""Check levels, depths and parameters of each backbone on the meta device, where nothing is computed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.networks.backbones import build_backbone
from model.networks.config import IMAGENET_MEAN, IMAGENET_STD, AttentionConfig, InputConfig, ModelConfig
from model.networks.registry import build_network, count_parameters
from model.networks.weights import pretrained_normalisation

CONFIG = ModelConfig(backbone="resnet18", classes=("Gun", "Knife", "Wrench", "Pliers", "Scissors"))
# Depth and cells a side of the last four levels at 224 px (28, 14 and 7 cells are the paper's, Section 5.1), and the
# parameters of plain (one level), h and hr (three levels), heads for five classes included.
BACKBONES = {
    "resnet18": ([(64, 56), (128, 28), (256, 14), (512, 7)], (11_179_077, 11_181_007, 11_427_151)),
    "resnet34": ([(64, 56), (128, 28), (256, 14), (512, 7)], (21_287_237, 21_289_167, 21_535_311)),
    "resnet50": ([(256, 56), (512, 28), (1024, 14), (2048, 7)], (23_518_277, 23_525_967, 27_459_663)),
    "resnet101": ([(256, 56), (512, 28), (1024, 14), (2048, 7)], (42_510_405, 42_518_095, 46_451_791)),
    "inception_v3": ([(192, 52), (288, 25), (768, 12), (2048, 5)], (21_795_813, 21_801_103, 24_268_975)),
    "densenet121": ([(256, 56), (512, 28), (1024, 14), (1024, 7)], (6_958_981, 6_966_671, 9_851_791)),
}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_the_levels_written_down(backbone):
    for num_levels in (1, 2, 3, 4):
        expected = BACKBONES[backbone][0][-num_levels:]
        with torch.device("meta"):
            levels: Any = build_backbone(backbone, num_levels).eval()
            found = [tuple(features.shape[1:]) for features in levels(torch.rand(1, 3, 224, 224))]
        assert found == [(depth, cells, cells) for depth, cells in expected]
        assert levels.feature_info.channels() == [depth for depth, _ in expected]
        assert levels.feature_info.reduction() == [4, 8, 16, 32][-num_levels:]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_carries_refinement_over_four_levels(backbone):
    with torch.device("meta"):
        network = build_network(replace(CONFIG, network="hr", backbone=backbone, num_levels=4)).eval()
        heatmaps = [tuple(heatmap.shape) for heatmap in network(torch.rand(1, 3, 224, 224)).heatmaps]
    assert heatmaps == [(1, 5, cells, cells) for _, cells in BACKBONES[backbone][0]]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_has_the_parameters_written_down(backbone):
    with torch.device("meta"):
        networks = [
            build_network(replace(CONFIG, network=name, backbone=backbone, num_levels=num_levels))
            for name, num_levels in (("plain", 1), ("h", 3), ("hr", 3))
        ]
    assert tuple(count_parameters(network) for network in networks) == BACKBONES[backbone][1]


def test_the_parameters_of_chr_are_those_of_backbone_refiners_and_classifiers():
    refiners = (512 + 256) * 256 + 256 + (256 + 128) * 128 + 128
    classifiers = 5 * (128 + 256 + 512 + 3)
    assert BACKBONES["resnet34"][1][2] == 21_284_672 + refiners + classifiers


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_100", "convnext_atto", "efficientnet_b0"])
def test_any_other_network_of_timm_with_three_levels_fits_the_same_interface(backbone):
    with torch.device("meta"):
        output = build_network(replace(CONFIG, backbone=backbone)).eval()(torch.rand(1, 3, 224, 224))
    assert [heatmap.shape[-1] for heatmap in output.heatmaps] == [28, 14, 7]


@pytest.mark.parametrize("network", ["chr", "chr_authors", "sxmnet"])
@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "test_mambaout"])
@pytest.mark.parametrize("size_px", [64, 224])
def test_a_backbone_with_channels_last_fits_every_network_at_every_size(network, backbone, size_px):
    config = replace(
        CONFIG,
        network=network,
        backbone=backbone,
        input=InputConfig(size_px=size_px),
        attention=AttentionConfig() if network == "sxmnet" else None,
    )
    with torch.device("meta"):
        output = build_network(config).eval()(torch.rand(1, 3, size_px, size_px))
    assert [tuple(heatmap.shape[1:]) for heatmap in output.heatmaps] == [
        (5, size_px // s, size_px // s) for s in (8, 16, 32)
    ]


def test_channels_last_features_are_the_same_numbers_channels_first():
    levels: Any = build_backbone("test_mambaout", 3, image_size_px=64).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = levels(images), levels.body(images)
    assert [features.shape[1] for features in found] == levels.feature_info.channels()
    assert all(torch.equal(f[:, d], e[..., d]) for f, e in zip(found, expected, strict=True) for d in (0, 7))


def test_levels_that_do_not_halve_are_refused_but_one_of_them_serves():
    with pytest.raises(ValueError, match=r"3 levels of growing stride, got \[16, 16, 16\] \('test_vit'\)"):
        build_backbone("test_vit", 3)
    with torch.device("meta"):
        levels = build_backbone("test_vit", 1, image_size_px=64).eval()
        assert [tuple(features.shape) for features in levels(torch.rand(1, 3, 64, 64))] == [(1, 64, 4, 4)]


@pytest.mark.parametrize(
    ("backbone", "size_px", "reason"),
    [("inception_v3", 32, "Kernel size can't be greater"), ("maxvit_tiny_tf_224", 100, "must be divisible by window")],
)
def test_a_size_that_a_backbone_does_not_take_is_refused_before_training(backbone, size_px, reason):
    message = (
        f"image_size_px must be one that the backbone '{backbone}' takes, got {size_px}: .*{reason}.*choose another"
    )
    with pytest.raises(ValueError, match=message):
        build_network(replace(CONFIG, backbone=backbone, input=InputConfig(size_px=size_px)))


def test_normalisation_is_that_of_the_pretrained_weights():
    assert pretrained_normalisation("resnet34.tv_in1k") == (IMAGENET_MEAN, IMAGENET_STD)
    assert pretrained_normalisation("inception_v3.tv_in1k") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="backbone must be a timm network with pretrained weights, got 'resnet35'"):
        pretrained_normalisation("resnet35")
