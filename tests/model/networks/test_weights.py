"""Weights of an installed package are those of ImageNet, and levels end as the whole network continues them."""

import logging
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from model.networks import weights
from model.networks.backbones import build_backbone
from model.networks.config import InputConfig, ModelConfig
from model.networks.registry import build_network, start_at_prior
from model.networks.weights import find_package, pretrained_creator, pretrained_normalisation, read_package

LITE0 = "tf_efficientnet_lite0"
PALACE, DAISY = 698, 985
"""ImageNet's classes of the two photographs that scikit-learn brings."""


def package_weights(name=LITE0):
    path = find_package(LITE0)
    assert path is not None
    return read_package(name, path)


def read_photographs():
    """Return the middle of both photographs as the network takes it, (2, 3, 224, 224)."""
    mean, std = (np.array(values) for values in pretrained_normalisation(LITE0))
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    assert {photograph.size for photograph in whole} == {(640, 427)}
    middle = [photograph.resize((384, 256), Image.Resampling.BICUBIC).crop((80, 16, 304, 240)) for photograph in whole]
    pixels = [np.asarray(photograph) / 255 for photograph in middle]
    return torch.from_numpy((np.stack(pixels) - mean) / std).permute(0, 3, 1, 2).float()


def test_the_weights_of_the_package_know_two_photographs():
    network = pretrained_creator(LITE0, None)().eval()
    with torch.inference_mode():
        found = network(read_photographs()).softmax(dim=1)
    assert found.argmax(dim=1).tolist() == [PALACE, DAISY]
    assert found.amax(dim=1).min() > 0.3


def test_a_backbone_has_the_weights_of_the_package_without_a_hub_or_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(weights, "_create_from_hub", lambda *_: pytest.fail("asks the hub"))
    config = ModelConfig(backbone=LITE0, classes=("Gun",), input=InputConfig(size_px=64), complete_levels=True)
    with caplog.at_level(logging.INFO):
        network = build_network(config, pretrained=True)
    expected = package_weights()
    state = network.get_submodule("backbone").state_dict()
    body = {name.removeprefix("body."): value for name, value in state.items() if name.startswith("body.")}
    head = {
        name.replace("norm_head", "bn2"): value for name, value in state.items() if name.startswith(("conv_", "norm_"))
    }
    assert len(body) > 200 and len(head) == 6
    for name, value in (body | head).items():
        assert torch.equal(value, expected[name]), name
    assert expected.keys() - (body | head).keys() == {"classifier.weight", "classifier.bias"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"backbone weights must fit 'tf_efficientnet_lite1' under timm's names, got"):
        package_weights("tf_efficientnet_lite1")


def test_a_backbone_without_a_package_is_found_in_none():
    assert find_package("resnet34.a1_in1k") is None
    assert find_package("tf_efficientnet_lite0.in1k") == find_package(LITE0)


def test_an_efficientnet_ends_with_the_convolution_before_its_pool():
    whole: Any = pretrained_creator(LITE0, None)().eval()
    backbone: Any = build_backbone(LITE0, 2, complete_levels=True, pretrained=True).eval()
    plain: Any = build_backbone(LITE0, 2, pretrained=True).eval()
    assert backbone.feature_info.channels() == [112, 1280]
    images_BCHW = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = backbone(images_BCHW)
        torch.testing.assert_close(found[1], whole.forward_features(images_BCHW))
        torch.testing.assert_close(found[0], plain(images_BCHW)[0])


def test_the_levels_of_a_densenet_carry_norm_and_relu():
    torch.manual_seed(0)
    plain: Any = build_backbone("densenet121", 3).eval()
    complete: Any = build_backbone("densenet121", 3, complete_levels=True).eval()
    complete.body.load_state_dict(plain.state_dict())
    images_BCHW = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected, found = plain(images_BCHW), complete(images_BCHW)
        for level, transition in ((0, plain.features_transition2), (1, plain.features_transition3)):
            torch.testing.assert_close(found[level], transition.norm(expected[level]))
        torch.testing.assert_close(found[2], expected[2])
    assert min(float(level.min()) for level in found) == 0
    assert complete.feature_info.channels() == plain.feature_info.channels() == [512, 1024, 1024]


def test_backbones_that_are_complete_stay_as_they_are():
    network = build_backbone("test_resnet", 3, complete_levels=True)
    assert network.state_dict().keys() == build_backbone("test_resnet", 3).state_dict().keys()
    assert type(network) is type(timm.create_model("test_resnet", features_only=True))


@pytest.mark.parametrize("network", ["plain", "h", "chr", "fpn"])
def test_every_level_starts_at_the_log_prior(network):
    config = ModelConfig(
        network=network, backbone="test_resnet", classes=("Gun", "Knife"), num_levels=1 if network == "plain" else 3
    )
    built = build_network(config).eval()
    log_prior_K = torch.tensor([-5.0, -2.0])
    start_at_prior(built, log_prior_K)
    with torch.inference_mode():
        output = built(torch.zeros(1, 3, 64, 64))
    difference_LK = (output.level_logits_LBK[:, 0] - log_prior_K).abs()
    assert float(difference_LK.max()) < 0.2  # what the small random weights add
