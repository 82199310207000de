"""One array holds what a network says of a batch, and memory that ends halves the batch once."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model.artifacts.saved_model import load_model, save_model
from model.hardware import Hardware
from model.networks.bf16 import with_bf16_weights
from model.networks.config import FUSIONS, AttentionConfig, InputConfig, ModelConfig
from model.networks.peaks import find_peaks
from model.networks.registry import NETWORKS, build_network
from model.scoring import scoring_network
from model.scoring.scoring_network import BATCH_SIZES, ScoringNetwork

CPU = Hardware(device="cpu", dtype="float32", decode_device="cpu", num_cores=2, name="a processor")
CONFIG = ModelConfig(backbone="resnet10t", classes=("Gun", "Knife"), input=InputConfig(size_px=64))
SIZES_PX_B2 = np.array([(640, 480), (300, 700), (64, 64), (1, 1), (999, 5)])
WITHOUT_FUSION = ("plain", "chr_authors", "chr_authors_corners")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    save_model(folder, build_network(CONFIG), CONFIG)
    return load_model(folder)


@pytest.fixture
def images_BCHW():
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def windows_of(num):
    edges_B4 = torch.rand(num, 4, generator=torch.Generator().manual_seed(1))
    return torch.stack([edges_B4[:, 0] / 2, edges_B4[:, 1] / 2, 1 - edges_B4[:, 2] / 2, 1 - edges_B4[:, 3] / 2], dim=1)


@pytest.mark.parametrize("has_windows", [False, True])
def test_scores_are_those_of_the_network_and_peaks_those_of_find_peaks_to_the_bit(model, images_BCHW, has_windows):
    network = ScoringNetwork(model, CPU)
    windows_B4 = windows_of(5) if has_windows else None
    found = network.start(images_BCHW, SIZES_PX_B2, None if windows_B4 is None else windows_B4.numpy()).result()
    output = network._compute(images_BCHW)
    widths_px_B, heights_px_B = torch.from_numpy(SIZES_PX_B2).unbind(1)
    peaks = find_peaks(output.heatmaps, widths_px_B, heights_px_B, windows_B4)
    np.testing.assert_array_equal(found.logits_BK, output.logits_BK)
    np.testing.assert_array_equal(found.level_logits_LBK, output.level_logits_LBK)
    expected = (peaks.x_px_BK, peaks.y_px_BK, peaks.level_BK, peaks.value_BK)
    for row_BK, expected_BK in zip(found.peaks_B4K.swapaxes(0, 1), expected, strict=True):
        np.testing.assert_array_equal(row_BK, expected_BK)


class LittleMemory:
    """A function that has memory for so many images at once."""

    def __init__(self, function, num_images):
        self.function, self.num_images, self.batches = function, num_images, []

    def __call__(self, images_BCHW):
        self.batches.append(len(images_BCHW))
        if len(images_BCHW) > self.num_images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.function(images_BCHW)


def test_a_network_that_runs_out_of_memory_halves_the_batch_once_and_says_so(model, images_BCHW, caplog):
    network = ScoringNetwork(model, CPU, batch_size=4)
    expected = network.start(images_BCHW, SIZES_PX_B2).result()
    network._compute = LittleMemory(network._compute, 2)
    with caplog.at_level("WARNING"):
        found = [network.start(images_BCHW, SIZES_PX_B2).result() for _ in range(2)]
    assert caplog.messages == ["out of memory: the network takes 2 scans at once from now on"]
    assert network._compute.batches == [4, 2, 2, 1, 2, 2, 1]
    for scores in found:
        np.testing.assert_allclose(scores.logits_BK, expected.logits_BK, atol=1e-5)
    assert network.describe(4).batch_size == 2


def test_a_second_time_is_an_error_with_the_remedy_that_no_scan_is_blamed_for(model, images_BCHW):
    network = ScoringNetwork(model, CPU, batch_size=4)
    network._compute = LittleMemory(network._compute, 1)
    with pytest.raises(OSError, match=r"must hold a batch of 2 scans, got out of memory .*give a --batch-size below 2"):
        network.start(images_BCHW, SIZES_PX_B2)


def test_the_graph_of_a_gpu_is_captured_anew_at_half_the_batch(model, monkeypatch):
    sizes = []

    class Graph:
        def __init__(self, function, images_BCHW):
            sizes.append(len(images_BCHW))
            if len(images_BCHW) > 128:
                raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scoring_network, "_CudaGraph", Graph)
    monkeypatch.setattr(ScoringNetwork, "_blank", lambda network: torch.empty(network.batch_size, 0))
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)
    hardware = dataclasses.replace(CPU, device="cuda", decode_device="mixed", name="a card")
    network = ScoringNetwork(model, hardware)
    assert sizes == [BATCH_SIZES["cuda"], 128] and isinstance(network._forward, Graph)
    engine = network.describe(256)
    assert (engine.batch_size, engine.gpu.requested_batch_size, engine.gpu.name) == (128, 256, "a card")


@pytest.mark.parametrize(
    ("name", "fusion"),
    [(name, fusion) for name in NETWORKS for fusion in FUSIONS if fusion == "average" or name not in WITHOUT_FUSION],
)
def test_bf16_weights_give_float32_outputs_near_those_of_float32(name, fusion):
    config = dataclasses.replace(
        CONFIG,
        network=name,
        num_levels=1 if name == "plain" else 3,
        fusion=fusion,
        attention=AttentionConfig() if name == "sxmnet" else None,
    )
    torch.manual_seed(0)
    network = build_network(config).eval()
    images_BCHW = torch.randn(2, 3, 64, 64)
    half: Any = with_bf16_weights(network)
    with torch.inference_mode():
        expected, found = network(images_BCHW), half(images_BCHW.bfloat16())
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    convolutions = [module for module in half.backbone.modules() if isinstance(module, nn.Conv2d)]
    assert {convolution.weight.dtype for convolution in convolutions} == {torch.bfloat16}
    assert {parameter.dtype for parameter in half.classifiers.parameters()} == {torch.float32}
    for (part, one), (_, other) in zip(found.named_tensors(), expected.named_tensors(), strict=True):
        assert one.dtype == torch.float32, part
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.05, msg=part)
