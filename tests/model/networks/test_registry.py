import json
from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from model.networks.chr import HierarchicalNetwork, MapClassifier, Refiner, UpsampledMix
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.registry import NETWORKS, build_network

CONFIG = ModelConfig(backbone="resnet18", classes=("Gun", "Knife", "Wrench", "Pliers", "Scissors"))
WITH_FUSION = [f"{network}+{fusion}" for network in ("chr", "sxmnet") for fusion in ("gated", "meta")]


def config_of(name):
    network, _, fusion = name.partition("+")
    return replace(
        CONFIG,
        network=network,
        num_levels=1 if network == "plain" else 3,
        fusion=fusion or "average",
        attention=AttentionConfig() if network == "sxmnet" else None,
    )


@pytest.mark.parametrize("network", [*NETWORKS, *WITH_FUSION])
def test_every_network_gives_float32_logits_and_maps_of_every_level(network):
    config = config_of(network)
    output = build_network(config)(torch.rand(2, 3, 96, 64))
    assert output.level_logits_LBK.shape == (config.num_levels, 2, 5)
    assert output.logits_BK.shape == (2, 5)
    sizes = [(12, 8), (6, 4), (3, 2)][-config.num_levels :]
    assert [tuple(heatmap.shape) for heatmap in output.heatmaps] == [(2, 5, *size) for size in sizes]
    assert {output.level_logits_LBK.dtype, *(heatmap.dtype for heatmap in output.heatmaps)} == {torch.float32}


@pytest.mark.parametrize("network", [*NETWORKS, *WITH_FUSION])
def test_every_parameter_of_every_network_gets_a_gradient(network):
    module = build_network(config_of(network))
    module(torch.rand(2, 3, 64, 64)).logits_BK.square().sum().backward()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("network", [*NETWORKS, *WITH_FUSION])
def test_every_network_gives_the_same_for_a_scan_whatever_stands_beside_it(network):
    module = build_network(config_of(network)).eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        together, alone = module(images), module(images[1:2])
    torch.testing.assert_close(together.logits_BK[1:2], alone.logits_BK, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    depths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    factor=st.integers(1, 3),
    below_first=st.booleans(),
    align_corners=st.booleans(),
)
def test_mixing_before_the_up_sampling_equals_mixing_after_it(seed, depths, size, factor, below_first, align_corners):
    torch.manual_seed(seed)
    num_below, num_above = depths
    mix = UpsampledMix(num_below, num_above, below_first=below_first, align_corners=align_corners).double()
    below, above = torch.randn(2, num_below, *(factor * side for side in size)), torch.randn(2, num_above, *size)
    below, above = below.double(), above.double()
    up = functional.interpolate(above, size=below.shape[-2:], mode="bilinear", align_corners=align_corners)
    joined = torch.cat([below, up] if below_first else [up, below], dim=1)
    expected = functional.conv2d(joined, mix.weight, mix.bias)
    torch.testing.assert_close(mix(below, above), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_levels", [1, 2, 3, 4])
def test_the_number_of_levels_can_be_chosen(num_levels):
    module = build_network(replace(CONFIG, num_levels=num_levels))
    assert module(torch.rand(2, 3, 64, 64)).level_logits_LBK.shape[0] == num_levels


def test_the_classifier_equals_pooling_and_a_linear_layer():
    classify = MapClassifier(16, 5)
    features = torch.randn(2, 16, 7, 9)
    pooled = functional.adaptive_avg_pool2d(features, 1).flatten(1)
    expected = functional.linear(pooled, classify.score.weight.flatten(1), classify.score.bias)
    torch.testing.assert_close(classify(features).mean(dim=(2, 3)), expected)


def test_the_prediction_is_the_mean_of_the_levels_and_a_level_the_mean_of_its_map():
    output = build_network(CONFIG).eval()(torch.rand(2, 3, 64, 64))
    means = torch.stack([heatmap.mean(dim=(2, 3)) for heatmap in output.heatmaps])
    torch.testing.assert_close(output.level_logits_LBK, means)
    torch.testing.assert_close(output.logits_BK, means.mean(dim=0))


class GivenFeatures(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, images):
        return self.features


def test_refinement_is_the_papers_recursion():
    """Section 4.2: x~(L) = x(L); x~(l) = g(l)([x(l), upsampled x~(l+1)]), l = L-1 .. 1."""
    torch.manual_seed(0)
    x1, x2, x3 = torch.randn(2, 4, 12, 8), torch.randn(2, 6, 6, 4), torch.randn(2, 8, 3, 2)
    network = HierarchicalNetwork(GivenFeatures([x1, x2, x3]), [4, 6, 8], num_classes=5, refine=True)
    g1, g2 = network.refiners
    assert isinstance(g1, Refiner)
    assert isinstance(g2, Refiner)

    def up(features):
        return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

    def mix(refiner, below, above):
        return torch.relu(functional.conv2d(torch.cat([below, up(above)], 1), refiner.mix.weight, refiner.mix.bias))

    refined2 = mix(g2, x2, x3)
    refined1 = mix(g1, x1, refined2)
    output = network(torch.zeros(2, 3, 96, 64))
    for found, features, classify in zip(output.heatmaps, (refined1, refined2, x3), network.classifiers, strict=True):
        torch.testing.assert_close(found, classify(features))


def test_without_refinement_a_level_sees_its_own_features_alone():
    x1, x2 = torch.randn(1, 4, 6, 6), torch.randn(1, 6, 3, 3)
    network = HierarchicalNetwork(GivenFeatures([x1, x2]), [4, 6], num_classes=2, refine=False)
    for found, features, classify in zip(network(torch.zeros(1)).heatmaps, (x1, x2), network.classifiers, strict=True):
        torch.testing.assert_close(found, classify(features))


def test_logits_stay_float32_under_autocast():
    network = build_network(CONFIG).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = network(torch.rand(1, 3, 64, 64))
    assert output.level_logits_LBK.dtype == torch.float32
    values = torch.cat([heatmap.flatten() for heatmap in output.heatmaps])
    assert not torch.equal(values, values.bfloat16().float())


def test_weights_of_a_backbone_are_read_from_a_file(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("test_resnet", pretrained=False)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(whole.state_dict(), path)
    network = build_network(replace(CONFIG, backbone="test_resnet"), weights_file=str(path))
    state = whole.state_dict()
    found = dict(network.backbone.state_dict())  # type: ignore[union-attr]
    assert found.keys() <= state.keys()
    assert len(found) > 20
    assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_weights_that_do_not_fit_are_refused(tmp_path):
    whole = timm.create_model("test_resnet", pretrained=False).state_dict()
    config, path = replace(CONFIG, backbone="test_resnet"), tmp_path / "weights.safetensors"
    name = next(name for name in whole if name.endswith("conv1.weight"))
    for wrong in (
        {"other": torch.zeros(1)},
        {key: value for key, value in whole.items() if key != name},
        whole | {name: torch.zeros(1)},
    ):
        safetensors.torch.save_file(wrong, path)
        with pytest.raises(ValueError, match=r"backbone weights must fit 'test_resnet' under timm's names, got .*none"):
            build_network(config, weights_file=str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"backbone weights must be a safetensors file, got .*weights.safetensors"):
        build_network(config, weights_file=str(path))


def test_a_pickle_of_weights_is_refused(tmp_path):
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"must be a local .safetensors file, got .*weights.pth.*never loaded"):
        build_network(CONFIG, weights_file=str(tmp_path / "weights.pth"))


def test_a_file_of_weights_that_is_not_there_is_named():
    message = r"must be a file that is there, got '/nonexistent.safetensors', which does not exist"
    with pytest.raises(ValueError, match=message):
        build_network(CONFIG, weights_file="/nonexistent.safetensors")


def test_weights_that_cannot_be_fetched_are_an_error_with_the_ways_out(monkeypatch):
    # The client's own switch: it asks its cache alone.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(ValueError, match=r"must be fetched from timm's hub.*--backbone-weights FILE.*--no-pretrained"):
        build_network(CONFIG, pretrained=True)


def test_a_hub_out_of_reach_is_said_at_once_and_in_one_error(monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits before it asks again"))
    with pytest.raises(
        ValueError, match=r"must be fetched from timm's hub, got ConnectError: .*--backbone-weights FILE"
    ):
        build_network(CONFIG, pretrained=True)
    assert not [record for record in caplog.records if record.name.startswith("huggingface_hub")]


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_cached_file_or_one_of_another_name_is_left_to_timm(monkeypatch, is_cached):
    def absent(url, timeout):
        raise EntryNotFoundError("404")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda **_: "/cache/file" if is_cached else None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", absent)
    asked = []
    create = timm.create_model

    def create_model(name, *, pretrained, **options):
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr("timm.create_model", create_model)
    build_network(CONFIG, pretrained=True)
    assert asked[-1] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "vgg"}, r"network must be one of \['ch', 'chr', 'chr_authors', .*'sxmnet'\], got 'vgg'"),
        ({"backbone": "resnet19"}, "backbone must be a timm network with feature levels, got 'resnet19'"),
        ({"num_levels": 6}, "num_levels must be <= 5, the levels of 'resnet18', got 6"),
        ({"network": "plain"}, "num_levels must be 1 for the network 'plain', got 3"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build_network(replace(CONFIG, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "classes must be different names, at least one"),
        ({"classes": ("Gun", "Gun")}, "classes must be different names, at least one"),
        ({"num_levels": 0}, "num_levels must be >= 1, got 0"),
        ({"fusion": "max"}, r"fusion must be one of \('average', 'top', 'gated', 'meta'\), got 'max'"),
        ({"fusion": "meta", "num_levels": 1}, "fusion must be 'average' for a single level, got 'meta'"),
        ({"network": "sxmnet"}, "attention must be given for the network 'sxmnet' and for no other, got None"),
        ({"attention": AttentionConfig()}, "for no other, got AttentionConfig.* for 'chr'"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_an_input_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="image_size_px must be >= 32, the stride of the backbones, got 16"):
        InputConfig(size_px=16)
    with pytest.raises(ValueError, match="mean and std must be 3 values, std > 0"):
        InputConfig(std=(1.0, 0.0, 1.0))


def test_an_attention_head_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"num_upsamples must be in 0..3, got 4"):
        AttentionConfig(num_upsamples=4)


def test_a_config_survives_json_and_one_without_newer_parts_is_written_as_before():
    for name in (*NETWORKS, *WITH_FUSION):
        config = config_of(name)
        assert ModelConfig.from_json(json.loads(json.dumps(config.to_json())), "config.json") == config
    assert list(config_of("chr").to_json()) == [
        *("format", "network", "backbone", "classes", "num_levels", "image_size_px", "mean", "std")
    ]
    with pytest.raises(ValueError, match=r"model config must be complete, got .*cells.*config.json"):
        ModelConfig.from_json(config_of("sxmnet").to_json() | {"attention": {"cells": 28}}, "config.json")
