"""What does each backbone give? Levels, depths and parameters, on the meta device: nothing is computed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.backbones import build_backbone, normalisation_of
from model.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from model.network import build_network, count_parameters

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


def test_normalisation_is_that_of_the_pretrained_weights():
    assert normalisation_of("resnet34.tv_in1k") == (IMAGENET_MEAN, IMAGENET_STD)
    assert normalisation_of("inception_v3.tv_in1k") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="backbone must be a timm network with pretrained weights, got 'resnet35'"):
        normalisation_of("resnet35")
