"""Engines give the output of the network, and the right one is chosen."""

import dataclasses
import shutil
import time

import pytest
import torch
import torch._inductor.config
from torch import nn

from model.artifacts.export import trace_onnx
from model.hardware import Hardware
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.output import NetworkOutput
from model.networks.registry import build_network
from model.scoring import engine_selection, engines
from model.scoring.engine_selection import (
    EXPORTED_FROM_SCANS,
    EngineRequest,
    EngineSpec,
    earlier_spec,
    list_engine_specs,
)
from model.scoring.engines import PART_IMAGES, build_engine, choose_engine, measure_engines
from shards.predictions.parts import Engine

CONFIG = ModelConfig(backbone="resnet10t", classes=("Gun", "Knife", "Wrench"), input=InputConfig(size_px=64))
PLAIN = Hardware(device="cpu", dtype="float32", decode_device="cpu", num_cores=2, name="a processor")
UNITS = dataclasses.replace(PLAIN, dtype="bfloat16")
GPU = dataclasses.replace(UNITS, device="cuda", decode_device="mixed", name="a GPU")
FLOAT32, BFLOAT16, ONNX = (
    EngineSpec("eager", "float32"),
    EngineSpec("eager", "bfloat16"),
    EngineSpec("onnxruntime", "float32"),
)
COMPILED = EngineSpec("compiled", "float32")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(CONFIG).eval()


@pytest.fixture
def installed(monkeypatch):
    """Every engine can run, whatever this machine has."""
    monkeypatch.setattr(engine_selection, "_missing_packages", list)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def part_engine(spec, device="cpu", decoder="dali-cpu"):
    return Engine(decoder, device, spec.dtype, 64, spec.engine)


@pytest.mark.parametrize(("spec", "tolerance"), [(FLOAT32, 1e-4), (BFLOAT16, 0.05), (ONNX, 1e-4)], ids=str)
def test_an_engine_gives_the_output_of_the_network_in_batches_of_any_size(network, spec, tolerance):
    compute = build_engine(spec, network, CONFIG, PLAIN)
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


def test_a_network_that_cannot_be_traced_is_refused_by_name():
    """It is exported in full: `test_sxmnet_at_rest` compares that engine's outputs with the network's."""
    config = dataclasses.replace(CONFIG, network="sxmnet", attention=AttentionConfig())
    with pytest.raises(ValueError, match="network must be one that can be traced"):
        trace_onnx(build_network(config).eval(), config)


class OneLayer(nn.Module):
    """The smallest network: what is compiled in seconds."""

    def __init__(self):
        super().__init__()
        self.score = nn.Conv2d(3, 2, 3)

    def forward(self, images_BCHW):
        heatmap = self.score(images_BCHW)
        return NetworkOutput(heatmap.mean(dim=(2, 3))[None], (heatmap,))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++, which is not there")
def test_compiled_code_takes_smaller_batches_and_is_compiled_once(monkeypatch):
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)  # else a pool of processes starts for one kernel
    network = OneLayer().eval()
    compute = build_engine(
        COMPILED, network, dataclasses.replace(CONFIG, num_levels=1, input=InputConfig(size_px=32)), PLAIN
    )
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
    ("request_", "hardware", "expected"),
    [
        (EngineRequest(num_scans=EXPORTED_FROM_SCANS), PLAIN, [ONNX, FLOAT32]),
        (EngineRequest(num_scans=EXPORTED_FROM_SCANS), UNITS, [ONNX, BFLOAT16]),
        (EngineRequest(num_scans=EXPORTED_FROM_SCANS - 1), UNITS, [BFLOAT16]),
        (EngineRequest(num_scans=EXPORTED_FROM_SCANS - 1), PLAIN, [FLOAT32]),
        (EngineRequest(num_scans=10**6), GPU, [BFLOAT16]),
        (EngineRequest(dtype="float32"), GPU, [FLOAT32]),
        (EngineRequest(dtype="float32", num_scans=EXPORTED_FROM_SCANS), UNITS, [ONNX, FLOAT32]),
        (EngineRequest(dtype="bfloat16", num_scans=EXPORTED_FROM_SCANS), PLAIN, [BFLOAT16]),
        (EngineRequest(engine="eager", num_scans=EXPORTED_FROM_SCANS), UNITS, [BFLOAT16]),
        (EngineRequest(engine="onnxruntime"), UNITS, [ONNX]),
        (EngineRequest(engine="compiled"), PLAIN, [COMPILED]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("installed")
def test_the_candidates_follow_from_machine_and_request(request_, hardware, expected):
    assert list_engine_specs(request_, hardware) == expected


def test_without_onnx_installed_its_engine_is_left_out_or_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(engine_selection, "_missing_packages", lambda: ["onnxruntime"])
    assert list_engine_specs(EngineRequest(), PLAIN) == [FLOAT32]
    with pytest.raises(
        ValueError, match=r"got no onnxruntime; install them with: pip install 'sixray-pipeline\[export"
    ):
        list_engine_specs(EngineRequest(engine="onnxruntime"), PLAIN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: EngineRequest(engine="openvino"),
            "engine must be one of eager, compiled, onnxruntime, got 'openvino'",
        ),
        (lambda: EngineRequest(dtype="float16"), "dtype must be one of float32, bfloat16, got 'float16'"),
        (lambda: EngineRequest(engine="onnxruntime", dtype="bfloat16"), "dtype must be float32 for the engine onnx"),
        (
            lambda: list_engine_specs(EngineRequest(engine="onnxruntime"), GPU),
            "engine must be eager or compiled on 'cuda'",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("machine", "compilers"), [(PLAIN, r"g\+\+ or c\+\+ or clang\+\+"), (GPU, "gcc or clang")])
def test_compiling_without_a_compiler_is_refused(monkeypatch, machine, compilers):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=rf"engine compiled must have a compiler \({compilers}\)"):
        list_engine_specs(EngineRequest(engine="compiled"), machine)


@pytest.mark.usefixtures("installed")
def test_a_resumed_run_keeps_the_engine_of_the_existing_parts_if_the_machine_has_it():
    earlier = (part_engine(BFLOAT16, "cuda", "dali-mixed"), part_engine(BFLOAT16), part_engine(ONNX))
    asked = EngineRequest(earlier=earlier)
    assert earlier_spec(asked, UNITS, "dali-cpu") == BFLOAT16
    assert earlier_spec(asked, PLAIN, "dali-cpu") == ONNX
    assert earlier_spec(asked, GPU, "dali-mixed") == BFLOAT16
    assert earlier_spec(dataclasses.replace(asked, engine="eager"), PLAIN, "dali-cpu") is None
    assert earlier_spec(EngineRequest(), PLAIN, "dali-cpu") is None


@pytest.mark.parametrize(
    ("num_earlier", "num_scans", "binds"), [(16, 10**6, False), (1000, 10**6, True), (16, 999, True)]
)
def test_a_few_earlier_parts_do_not_bind_many_scans(num_earlier, num_scans, binds):
    asked = EngineRequest(earlier=(part_engine(FLOAT32),), num_earlier_scans=num_earlier, num_scans=num_scans)
    assert (earlier_spec(asked, PLAIN, "dali-cpu") == FLOAT32) is binds


@pytest.fixture
def measured(monkeypatch):
    """Rates of the trials to come, ONNX Runtime first, and what was tried."""
    rates, calls = [10.0, 10.4], []

    def measure(engines_, size_px):
        calls.append(list(engines_))
        return dict(zip(engines_, rates, strict=True))

    monkeypatch.setattr(engines, "measure_engines", measure)
    monkeypatch.setattr(engines, "_chosen", {})
    return rates, calls


def choose(network, hardware, **request):
    return choose_engine(network, CONFIG, hardware, EngineRequest(num_scans=EXPORTED_FROM_SCANS, **request)).spec


@pytest.mark.parametrize(("bfloat16_rate", "expected"), [(10.4, ONNX), (10.6, BFLOAT16), (5.0, ONNX)])
def test_where_bf16_has_units_a_trial_decides_once(network, measured, bfloat16_rate, expected):
    rates, calls = measured
    rates[1] = bfloat16_rate
    assert [choose(network, UNITS) for _ in range(3)] == [expected] * 3
    assert calls == [[ONNX, BFLOAT16]]


def test_all_else_is_decided_without_a_trial(network, measured):
    assert choose(network, PLAIN) == ONNX
    assert choose(network, UNITS, dtype="float32") == ONNX
    assert choose(network, UNITS, engine="eager") == BFLOAT16
    earlier = EngineRequest(earlier=(part_engine(FLOAT32),))
    assert choose_engine(network, CONFIG, UNITS, earlier).spec == FLOAT32
    assert measured[1] == []


def test_what_was_built_for_the_choice_computes_afterwards(network, monkeypatch, measured):
    built, build_spec = [], engines._build

    def build(spec, folded, config, hardware):
        built.append(spec)
        return build_spec(spec, folded, config, hardware)

    monkeypatch.setattr(engines, "_build", build)
    engine = choose_engine(network, CONFIG, UNITS, EngineRequest(num_scans=EXPORTED_FROM_SCANS))
    assert built == [ONNX, BFLOAT16] and engine.spec == ONNX
    images_BCHW = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            engine.compute(images_BCHW).logits_BK, network(images_BCHW).logits_BK, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("hardware", [PLAIN, UNITS], ids=["float32", "bfloat16"])
def test_an_export_that_fails_is_replaced_by_pytorch_with_a_warning(network, monkeypatch, measured, caplog, hardware):
    def fail(*_):
        raise AttributeError("the runtime has no kernels")

    monkeypatch.setattr(engines, "_build_onnxruntime", fail)
    with caplog.at_level("WARNING"):
        assert choose(network, hardware) == EngineSpec("eager", hardware.dtype)
    assert "engine onnxruntime float32 cannot be used" in caplog.text
    assert "takes its place: the runtime has no kernels" in caplog.text
    with pytest.raises(AttributeError):
        choose(network, hardware, engine="onnxruntime")


def test_a_processor_computes_a_batch_in_parts_with_the_same_output(network):
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


@pytest.mark.slow
def test_a_trial_measures_each_engine():
    network = OneLayer()

    def take(seconds):
        def compute(images_BCHW):
            time.sleep(seconds)
            return network(images_BCHW)

        return compute

    with torch.inference_mode():
        rates = measure_engines({ONNX: take(0.1), BFLOAT16: take(0.001)}, CONFIG.input.size_px)
    assert list(rates) == [ONNX, BFLOAT16]
    assert rates[ONNX] <= 4 / 0.1 < rates[BFLOAT16]
