"""A quantized model is a model like any other, and is written only if held-out scans show no loss."""

import json

import numpy as np
import onnx
import pytest
import torch

from model.artifacts.export import export_model
from model.artifacts.onnx_network import OnnxNetwork
from model.artifacts.quantize import EXACT, list_convolutions
from model.artifacts.saved_model import describe_model, load_model, save_model, start_from
from model.hardware import Hardware
from model.inputs.sample_table import load_sample_table
from model.metrics import arrays
from model.networks.config import InputConfig, ModelConfig
from model.networks.registry import build_network
from model.scoring.engine_selection import EngineRequest
from model.scoring.engines import choose_engine
from model.scoring.scorer import Scorer
from pipelines import export, quantize
from tests.model.scans import CLASSES, make_dataset

CONFIG = ModelConfig(backbone="tf_efficientnet_lite0", classes=CLASSES, input=InputConfig(size_px=32))
PROCESSOR = Hardware(device="cpu", dtype="float32", decode_device="cpu", num_cores=2, name="a processor")
GPU = Hardware(device="cuda", dtype="bfloat16", decode_device="mixed", num_cores=2, name="a GPU")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, a model and the model quantized, whatever it loses."""
    place = tmp_path_factory.mktemp("quantize")
    make_dataset(place / "dataset", num_train=100)
    torch.manual_seed(0)
    provenance = {"config": {"validation_fraction": 0.4, "seed": 1}}
    save_model(str(place / "model"), build_network(CONFIG), CONFIG, provenance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "MAX_MEAN_LOSS", 1.0)
        patch.setattr(quantize, "MAX_CLASS_LOSS", 1.0)
        assert run(place, "int8") == 0
    return place


def run(place, output, *more):
    return quantize.main(
        [
            *("--model", str(place / "model"), "--data", str(place / "dataset"), "--output", str(place / output)),
            *("--calibration-scans", "16", *more),
        ]
    )


def test_its_logits_are_near_those_of_the_model(place):
    original, quantized = (load_model(str(place / name)) for name in ("model", "int8"))
    assert isinstance(quantized.network, OnnxNetwork)
    images_BCHW = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.inference_mode():
        expected = original.network.double()(images_BCHW.double())
        found = quantized.network(images_BCHW)
    spread = float(expected.logits_BK.std())
    assert 0 < float((found.logits_BK - expected.logits_BK).abs().max()) < spread
    assert [m.shape for m in found.heatmaps] == [m.shape for m in expected.heatmaps]


def test_the_convolutions_that_are_named_keep_float32(place):
    proto = onnx.load_from_string(load_model(str(place / "int8")).network.file)
    exact = describe_model(str(place / "int8"))["quantization"]["float32_for"]
    producers = {output: node.op_type for node in proto.graph.node for output in node.output}
    found = {
        node.name: producers.get(node.input[1]) == "DequantizeLinear"
        for node in proto.graph.node
        if node.op_type == "Conv"
    }
    convolutions = list_convolutions(proto)
    assert {conv[0]: not EXACT[exact](conv) for conv in convolutions} == found
    assert 0 < sum(found.values()) < len(found)


def test_every_step_keeps_more_in_float32_than_the_one_before():
    convolutions = [("/network/backbone/a", 1, 0), ("/network/backbone/b", 32, 1), ("/network/backbone/c", 1, 2)]
    convolutions += [("/network/classifiers.0", 1, 3)]
    kept = [[keep(conv) for conv in convolutions] for keep in EXACT.values()]
    assert kept == [[False, False, False, True], [False, True, False, True], [True, True, False, True]]


def test_it_has_an_id_and_a_record_of_its_own(place):
    original, quantized = (describe_model(str(place / name)) for name in ("model", "int8"))
    assert original["model_id"] != quantized["model_id"]
    assert quantized["num_parameters"] == original["num_parameters"]
    record = quantized["quantization"]
    assert record["source_model_id"] == original["model_id"]
    assert record["held_out"] == "0.4 of split train, as in training with seed 1"
    assert record["num_held_out_scans"] + record["num_calibration_scans"] < 100
    change = record["mean_average_precision_change"]
    assert change["low"] <= change["value"] <= change["high"]


def test_it_is_scored_by_its_own_engine_alone(place):
    model = load_model(str(place / "int8"))
    built = choose_engine(model.network, model.config, PROCESSOR, EngineRequest())
    assert (built.spec.engine, built.spec.dtype) == ("onnxruntime", "int8")
    with pytest.raises(ValueError, match="device must be cpu for a quantized model, got 'cuda'"):
        choose_engine(model.network, model.config, GPU, EngineRequest())
    with pytest.raises(ValueError, match="must be scored by onnxruntime in int8, got engine 'eager' and dtype None"):
        choose_engine(model.network, model.config, PROCESSOR, EngineRequest(engine="eager"))


def test_scores_are_those_of_its_network(place):
    scorer = Scorer.load(str(place / "int8"))
    assert scorer.engine.dtype == "int8"
    shards = make_dataset(place / "again", num_train=6, num_test=6)
    table = scorer.score_split(shards, "test")
    assert table.num_rows == 6
    assert np.isfinite(table["logits"].combine_chunks().field("Gun").to_numpy()).all()


def test_it_is_exported_as_it_is(place, tmp_path):
    assert export.main(["--model", str(place / "int8"), "--output", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "model.onnx.json").read_text())["largest_difference"] == 0
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
    with pytest.raises(ValueError, match="format must be onnx for a quantized model"):
        export_model(load_model(str(place / "int8")), "torch-export")


def test_no_training_starts_from_it(place):
    with pytest.raises(ValueError, match=r"got a quantized one \(.*start from chr-tf_efficientnet_lite0-"):
        start_from(build_network(CONFIG), CONFIG, str(place / "int8"))


def test_what_loses_too_much_is_refused_and_nothing_is_written(place, monkeypatch, capsys):
    monkeypatch.setattr(quantize, "quantize_onnx", lambda file, *_: file)
    monkeypatch.setattr(
        quantize, "rate_loss", lambda *_: quantize.Loss(mean=-0.006, low=-1, high=0, by_class={"Gun": 0})
    )
    assert run(place, "refused") == 1
    printed = capsys.readouterr()
    assert printed.out.count("refused, mean average precision changes by -0.0060, at most -0.005 is allowed") == len(
        EXACT
    )
    assert "no model was written" in printed.err
    assert not (place / "refused").exists()


def test_a_loss_of_one_class_is_enough():
    loss = quantize.Loss(mean=0.0, low=-0.1, high=0.1, by_class={"Gun": 0.02, "Knife": -0.011})
    assert loss.describe_excess() == "Knife changes by -0.0110, at most -0.01 is allowed"


def test_the_loss_is_the_difference_of_average_precisions(place):
    samples = load_sample_table(make_dataset(place / "rated", num_train=60, seed=4), "train")
    rng = np.random.default_rng(0)
    float32_NK = (samples.labels_NK + rng.normal(size=samples.labels_NK.shape)).astype(np.float32)
    int8_NK = float32_NK + rng.normal(size=float32_NK.shape).astype(np.float32)
    loss = quantize.rate_loss(int8_NK, float32_NK, samples)
    expected_K = arrays.average_precision(int8_NK, samples.labels_NK) - arrays.average_precision(
        float32_NK, samples.labels_NK
    )
    assert loss.by_class == pytest.approx(dict(zip(CLASSES, expected_K, strict=True)))
    assert loss.mean == pytest.approx(expected_K.mean())
    assert loss.low < loss.mean < loss.high
    same = quantize.rate_loss(float32_NK, float32_NK, samples)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("model", "output", "words"),
    [
        ("model", "int8", "output must be a folder without a model"),
        ("int8", "new", "model must have weights in float32, got a quantized one"),
    ],
)
def test_wrong_input_is_refused(place, model, output, words):
    config = quantize.QuantizeConfig(model=str(place / model), data=str(place / "dataset"), output=str(place / output))
    with pytest.raises(ValueError, match=words):
        quantize.quantize_model(config)


def test_too_few_held_out_scans_are_refused(place):
    save_model(
        str(place / "other"), build_network(CONFIG), CONFIG, {"config": {"validation_fraction": 0.01, "seed": 0}}
    )
    with pytest.raises(ValueError, match="held-out scans must hold a class at least 5 times to show a loss"):
        quantize.quantize_model(
            quantize.QuantizeConfig(model=str(place / "other"), data=str(place / "dataset"), output=str(place / "none"))
        )
