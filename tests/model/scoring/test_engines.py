"""Does every engine say what the network says, and is the one that is chosen the one that should be?"""

import dataclasses
import shutil
import time

import pytest
import torch
from torch import nn

from model.artifacts.export import trace_onnx
from model.hardware import Hardware
from model.networks.config import AttentionConfig, ModelConfig
from model.networks.output import NetworkOutput
from model.networks.registry import build_network
from model.scoring import engine_selection, engines
from model.scoring.engine_selection import (
    COMPILED_FROM_SCANS,
    EXPORTED_FROM_SCANS,
    EngineWish,
    Way,
    earlier_way,
    list_ways,
)
from model.scoring.engines import PART_IMAGES, build_engine, choose_engine, measure_ways, pick
from shards.predictions.parts import Engine
from tests.threads import one_thread

__all__ = ["one_thread"]  # a fixture for all tests here

CONFIG = ModelConfig(backbone="resnet10t", classes=("Gun", "Knife", "Wrench"), image_size_px=64)
PLAIN = Hardware(device="cpu", dtype="float32", decode_device="cpu", num_cores=2, name="a processor")
UNITS = dataclasses.replace(PLAIN, dtype="bfloat16")
GPU = dataclasses.replace(UNITS, device="cuda", decode_device="mixed", name="a GPU")
FLOAT32, BFLOAT16, ONNX = Way("eager", "float32"), Way("eager", "bfloat16"), Way("onnxruntime", "float32")
COMPILED = Way("compiled", "float32")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(CONFIG).eval()


@pytest.fixture
def installed(monkeypatch):
    """Every engine can run, whatever this machine has."""
    monkeypatch.setattr(engine_selection, "_absent_packages", list)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def part_engine(way, device="cpu", decoder="dali-cpu"):
    return Engine(decoder, device, way.dtype, 64, way.engine)


@pytest.mark.parametrize(("way", "tolerance"), [(FLOAT32, 1e-4), (BFLOAT16, 0.05), (ONNX, 1e-4)], ids=str)
def test_an_engine_says_what_the_network_says_in_batches_of_any_size(network, way, tolerance):
    compute = build_engine(way, network, CONFIG, PLAIN)
    for num in (5, 1):
        images_BCHW = torch.randn(num, 3, 64, 64, generator=torch.Generator().manual_seed(num))
        with torch.inference_mode():
            expected = network(images_BCHW)
        found = compute(images_BCHW.contiguous(memory_format=torch.channels_last))
        assert found.level_logits_LBK.dtype == torch.float32
        torch.testing.assert_close(found.logits_BK, expected.logits_BK, atol=tolerance, rtol=0)
        torch.testing.assert_close(found.level_logits_LBK, expected.level_logits_LBK, atol=tolerance, rtol=0)
        for one, other in zip(found.heatmaps, expected.heatmaps, strict=True):
            torch.testing.assert_close(one, other, atol=4 * tolerance, rtol=0)


def test_a_network_that_cannot_be_traced_is_exported_in_full():
    config = dataclasses.replace(CONFIG, network="sxmnet", attention=AttentionConfig())
    network, images_BCHW = build_network(config).eval(), torch.randn(3, 3, 64, 64)
    with pytest.raises(ValueError, match="network must be one that can be traced"):
        trace_onnx(network, config)
    with torch.inference_mode():
        expected = network(images_BCHW)
    found = build_engine(ONNX, network, config, PLAIN)(images_BCHW)
    torch.testing.assert_close(found.logits_BK, expected.logits_BK, atol=1e-4, rtol=0)


class OneLayer(nn.Module):
    """The smallest network: what is compiled in seconds."""

    def __init__(self):
        super().__init__()
        self.score = nn.Conv2d(3, 2, 3)

    def forward(self, images_BCHW):
        heatmap = self.score(images_BCHW)
        return NetworkOutput(heatmap.mean(dim=(2, 3))[None], (heatmap,))


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++, which is not there")
def test_compiled_code_takes_smaller_batches_and_is_compiled_once():
    network = OneLayer().eval()
    compute = build_engine(COMPILED, network, dataclasses.replace(CONFIG, num_levels=1, image_size_px=32), PLAIN)
    torch._dynamo.utils.counters.clear()
    for num in (6, 6, 2, 1):
        images_BCHW = torch.randn(num, 3, 32, 32)
        with torch.inference_mode():
            expected = network(images_BCHW)
        found = compute(images_BCHW)
        torch.testing.assert_close(found.logits_BK, expected.logits_BK)
        torch.testing.assert_close(found.heatmaps[0], expected.heatmaps[0])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("wish", "hardware", "expected"),
    [
        (EngineWish(num_scans=EXPORTED_FROM_SCANS), PLAIN, [FLOAT32, ONNX]),
        (EngineWish(num_scans=EXPORTED_FROM_SCANS), UNITS, [FLOAT32, BFLOAT16, ONNX]),
        (EngineWish(num_scans=EXPORTED_FROM_SCANS - 1), UNITS, [FLOAT32, BFLOAT16]),
        (EngineWish(), GPU, [BFLOAT16]),
        (EngineWish(dtype="float32"), GPU, [FLOAT32]),
        (EngineWish(dtype="float32", num_scans=EXPORTED_FROM_SCANS), UNITS, [FLOAT32, ONNX]),
        (EngineWish(dtype="bfloat16"), PLAIN, [BFLOAT16]),
        (EngineWish(engine="eager"), UNITS, [FLOAT32, BFLOAT16]),
        (EngineWish(engine="onnxruntime"), UNITS, [ONNX]),
        (EngineWish(engine="compiled"), PLAIN, [COMPILED]),
        (EngineWish(num_scans=COMPILED_FROM_SCANS), PLAIN, [FLOAT32, COMPILED, ONNX]),
        (EngineWish(num_scans=COMPILED_FROM_SCANS), GPU, [BFLOAT16]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("installed")
def test_the_ways_worth_a_trial_follow_from_the_machine_and_the_wish(wish, hardware, expected):
    assert list_ways(wish, hardware) == expected


def test_bf16_without_units_is_never_tried_unless_it_is_forced():
    assert all(way.dtype == "float32" for way in list_ways(EngineWish(num_scans=10**6), PLAIN))


def test_without_onnx_installed_its_engine_is_left_out_or_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(engine_selection, "_absent_packages", lambda: ["onnxruntime"])
    assert list_ways(EngineWish(), PLAIN) == [FLOAT32]
    with pytest.raises(
        ValueError, match=r"got no onnxruntime; install them with: pip install 'sixray-pipeline\[export"
    ):
        list_ways(EngineWish(engine="onnxruntime"), PLAIN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EngineWish(engine="openvino"), "engine must be one of eager, compiled, onnxruntime, got 'openvino'"),
        (lambda: EngineWish(dtype="float16"), "dtype must be one of float32, bfloat16, got 'float16'"),
        (lambda: EngineWish(engine="onnxruntime", dtype="bfloat16"), "dtype must be float32 for the engine onnx"),
        (lambda: list_ways(EngineWish(engine="onnxruntime"), GPU), "engine must be eager or compiled on 'cuda'"),
    ],
)
def test_a_wish_that_nothing_can_grant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"engine compiled must have a C\+\+ compiler"):
        list_ways(EngineWish(engine="compiled"), PLAIN)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({FLOAT32: 10, BFLOAT16: 19, ONNX: 12}, BFLOAT16),
        ({FLOAT32: 10, BFLOAT16: 2, ONNX: 15}, ONNX),
        ({FLOAT32: 10, BFLOAT16: 10.4}, FLOAT32),
        ({BFLOAT16: 10}, BFLOAT16),
    ],
)
def test_the_fastest_way_is_taken_where_it_is_faster_by_more_than_noise(rates, expected):
    assert pick(rates) == expected


@pytest.mark.usefixtures("installed")
def test_what_made_the_earlier_parts_goes_on_where_the_machine_has_it():
    earlier = (part_engine(BFLOAT16, "cuda", "dali-mixed"), part_engine(BFLOAT16), part_engine(ONNX))
    wish = EngineWish(earlier=earlier)
    assert earlier_way(wish, UNITS, "dali-cpu") == BFLOAT16
    assert earlier_way(wish, PLAIN, "dali-cpu") == ONNX
    assert earlier_way(wish, GPU, "dali-mixed") == BFLOAT16
    assert earlier_way(dataclasses.replace(wish, engine="eager"), PLAIN, "dali-cpu") is None
    assert earlier_way(EngineWish(), PLAIN, "dali-cpu") is None


@pytest.mark.parametrize(
    ("num_earlier", "num_scans", "binds"), [(16, 10**6, False), (1000, 10**6, True), (16, 999, True)]
)
def test_a_few_earlier_parts_do_not_bind_many_scans(num_earlier, num_scans, binds):
    wish = EngineWish(earlier=(part_engine(FLOAT32),), num_earlier_scans=num_earlier, num_scans=num_scans)
    assert (earlier_way(wish, PLAIN, "dali-cpu") == FLOAT32) is binds


def test_a_trial_is_run_once_and_not_at_all_where_nothing_is_to_choose(network, monkeypatch):
    calls = []

    def measure(build, config, hardware, ways):
        calls.append(ways)
        return dict(zip(ways, (10.0, 30.0), strict=True))

    monkeypatch.setattr(engines, "measure_ways", measure)
    monkeypatch.setattr(engines, "_tried", {})
    wish = EngineWish(engine="eager")
    assert [choose_engine(network, CONFIG, UNITS, wish).way for _ in range(3)] == [BFLOAT16] * 3
    assert calls == [[FLOAT32, BFLOAT16]]
    assert choose_engine(network, CONFIG, UNITS, EngineWish(engine="eager", dtype="float32")).way == FLOAT32
    assert choose_engine(network, CONFIG, UNITS, EngineWish(earlier=(part_engine(FLOAT32),))).way == FLOAT32
    assert len(calls) == 1


def test_what_a_trial_built_is_what_computes_afterwards(network, monkeypatch):
    built, build_way = [], engines._build

    def build(way, folded, config, hardware):
        built.append(way)
        return build_way(way, folded, config, hardware)

    monkeypatch.setattr(engines, "_build", build)
    monkeypatch.setattr(engines, "_tried", {})
    engine = choose_engine(network, CONFIG, PLAIN, EngineWish(num_scans=EXPORTED_FROM_SCANS))
    assert built == [FLOAT32, ONNX] and engine.way in built
    images_BCHW = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            engine.compute(images_BCHW).logits_BK, network(images_BCHW).logits_BK, atol=1e-4, rtol=0
        )


def test_a_way_that_cannot_be_built_is_left_out_with_a_word(caplog):
    def build(way):
        if way == ONNX:
            raise ValueError("network must be one that ONNX can say")
        return OneLayer()

    with caplog.at_level("WARNING"):
        assert measure_ways(build, CONFIG, PLAIN, [FLOAT32, ONNX]) == {}
    assert "onnxruntime float32 is left out of the trial: network must be one that ONNX can say" in caplog.text


def test_a_way_that_does_not_run_is_left_out_too_whatever_it_raises(caplog):
    def fail(images_BCHW):
        raise AttributeError("the compiler has no headers")

    with caplog.at_level("WARNING"), torch.inference_mode():
        assert (
            measure_ways(lambda way: fail if way == COMPILED else OneLayer(), CONFIG, PLAIN, [FLOAT32, COMPILED]) == {}
        )
    assert "compiled float32 is left out of the trial: the compiler has no headers" in caplog.text


def test_a_processor_computes_a_batch_in_parts_and_says_the_same(network):
    sizes = []

    class Recording(nn.Module):
        def forward(self, images_BCHW):
            sizes.append(len(images_BCHW))
            return network(images_BCHW)

    images_BCHW = torch.randn(2 * PART_IMAGES + 3, 3, 64, 64)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(engines, "fold_batch_norms", lambda network, size_px: network)
        found = build_engine(FLOAT32, Recording(), CONFIG, PLAIN)(images_BCHW)
        expected = network(images_BCHW)
    assert sizes == [PART_IMAGES, PART_IMAGES, 3]
    for (name, one), (_, other) in zip(found.named_tensors(), expected.named_tensors(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5, msg=name)


def test_a_trial_measures_each_way_and_passes_over_what_cannot_win():
    seconds = {"float32": 0.4, "bfloat16": 0.001}

    network = OneLayer()

    def build(way):
        assert way != ONNX, "an export beside bf16 of far more than its speed"

        def compute(images_BCHW):
            time.sleep(seconds[way.dtype])
            return network(images_BCHW)

        return compute

    with torch.inference_mode():
        rates = measure_ways(build, CONFIG, UNITS, [FLOAT32, BFLOAT16, ONNX])
    assert list(rates) == [FLOAT32, BFLOAT16]
    assert rates[FLOAT32] < 8 / 0.04 < rates[BFLOAT16]
