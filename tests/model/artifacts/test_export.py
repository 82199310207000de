"""Compare exports with the network in ONNX Runtime and in torch.export, without code of the project."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from model.artifacts import export
from model.artifacts.export import TOLERANCE, check_export, export_model, export_onnx, trace_onnx
from model.artifacts.onnx_network import open_session
from model.artifacts.saved_model import load_model, save_model
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.registry import build_network
from pipelines import export as command

CONFIG = ModelConfig(backbone="resnet10t", classes=("Gun", "Knife"), input=InputConfig(size_px=64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_model(str(folder / "m"), build_network(CONFIG), CONFIG)
    assert command.main(["--model", str(folder / "m"), "--output", str(folder), "--format", "onnx"]) == 0
    assert command.main(["--model", str(folder / "m"), "--output", str(folder), "--format", "torch-export"]) == 0
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder / "m"))


def expected(model, images_BCHW):
    with torch.inference_mode():
        output = model.network(images_BCHW)
    return [output.logits_BK, output.level_logits_LBK.transpose(0, 1), *output.heatmaps]


@pytest.mark.parametrize("num", [1, 2, 7])
def test_onnx_gives_logits_levels_and_heatmaps_for_any_batch(folder, model, num):
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    images_BCHW = torch.randn(num, 3, 64, 64)
    found = session.run(None, {"images": images_BCHW.numpy()})
    assert [output.name for output in session.get_outputs()] == [
        "logits",
        "level_logits",
        "heatmap_1",
        "heatmap_2",
        "heatmap_3",
    ]
    for one, other in zip(found, expected(model, images_BCHW), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=TOLERANCE)
    assert found[0].shape == (num, 2) and found[1].shape == (num, 3, 2)
    np.testing.assert_allclose(found[0], found[1].mean(axis=1), atol=1e-5)


@pytest.mark.parametrize("num", [1, 2, 7])
def test_a_torch_program_gives_the_same_without_our_code(folder, model, num):
    program = torch.export.load(str(folder / "model.pt2")).module()
    images_BCHW = torch.randn(num, 3, 64, 64)
    for one, other in zip(program(images_BCHW), expected(model, images_BCHW), strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)


def test_an_onnx_model_is_valid_names_its_batch_and_its_model(folder, model):
    proto = onnx.load(str(folder / "model.onnx"))
    onnx.checker.check_model(proto, full_check=True)
    (images,) = proto.graph.input
    assert [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim] == ["batch", 3, 64, 64]
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    assert metadata["model_id"] == model.model_id
    assert ModelConfig.from_json(json.loads(metadata["config"]), "metadata") == CONFIG


@pytest.mark.parametrize("file", ["model.onnx", "model.pt2"])
def test_the_document_beside_an_export_describes_its_input_and_outputs(folder, model, file):
    document = json.loads((folder / f"{file}.json").read_text())
    assert (document["model_id"], document["file"]) == (model.model_id, file)
    assert document["classes"] == ["Gun", "Knife"]
    assert document["input"]["shape"] == ["batch", 3, 64, 64] and document["input"]["mean"] == list(CONFIG.input.mean)
    assert 0 <= document["largest_difference"] <= document["tolerance"] == TOLERANCE


@pytest.mark.parametrize("wrong", [0.001, float("nan")])
def test_an_export_that_differs_from_the_network_is_not_written(model, wrong, monkeypatch):
    monkeypatch.setattr(export, "export_onnx", lambda *_: b"")

    class Session:
        def run(self, _, feed):
            outputs = [tensor.numpy().copy() for tensor in expected(model, torch.from_numpy(feed["images"]))]
            outputs[1][0, 0, 0] += wrong
            return outputs

    monkeypatch.setattr(export, "open_session", lambda *_: Session())
    with pytest.raises(ValueError, match=r"exported logits must be within 0\.0001 of the network's, got (0\.001|nan)"):
        export_model(model, "onnx")


def test_the_difference_to_itself_is_nothing(model):
    def run(images_BCHW):
        return [tensor.numpy() for tensor in expected(model, images_BCHW)]

    assert check_export(model.network, CONFIG, run) == 0


SXMNET = ModelConfig(
    network="sxmnet",
    backbone="resnet10t",
    classes=("Gun", "Knife"),
    input=InputConfig(size_px=64),
    fusion="meta",
    attention=AttentionConfig(),
)


@pytest.mark.slow
def test_onnx_holds_for_sxmnet_and_batches_of_other_sizes_and_names_weights_and_mask(tmp_path):
    save_model(str(tmp_path), build_network(SXMNET), SXMNET)
    sxmnet = load_model(str(tmp_path))
    file, document = export_model(sxmnet, "onnx")
    session = open_session(file, 1)
    names = ["logits", "level_logits", "heatmap_1", "heatmap_2", "heatmap_3", "level_weights", "attention"]
    assert [output.name for output in session.get_outputs()] == document["outputs"] == names
    check_export(sxmnet.network, SXMNET, lambda images: session.run(None, {"images": images.numpy()}), (2, 5))


AUTHORS = ModelConfig(network="chr_authors", backbone="resnet10t", classes=("Gun",), input=SXMNET.input, fusion="top")


@pytest.mark.parametrize("make_file", [trace_onnx, export_onnx])
def test_onnx_holds_for_the_top_level_alone_and_batches_of_other_sizes(make_file):
    network = build_network(AUTHORS).eval()
    session = open_session(make_file(network, AUTHORS), 1)
    check_export(network, AUTHORS, lambda images: session.run(None, {"images": images.numpy()}), (1, 5))


def test_a_trace_is_valid_and_holds_for_batches_of_other_sizes(model):
    file = trace_onnx(model.network, CONFIG)
    onnx.checker.check_model(file, full_check=True)
    session = open_session(file, 1)
    check_export(model.network, CONFIG, lambda images: session.run(None, {"images": images.numpy()}), (1, 2, 5))


def test_what_cannot_be_traced_is_refused_in_a_line():
    with pytest.raises(ValueError, match=r"^network must be one that can be traced, got .*adaptive.* \(sxmnet\)$"):
        trace_onnx(build_network(SXMNET).eval(), SXMNET)


def test_what_onnx_cannot_express_is_refused_in_a_line():
    class Chooses(torch.nn.Module):
        def forward(self, images_BCHW):
            return images_BCHW if images_BCHW.sum() > 0 else -images_BCHW

    with pytest.raises(ValueError, match=r"^network must be one that ONNX can express, got .+ \(chr\)$"):
        export_onnx(Chooses(), CONFIG)


def test_an_unknown_format_is_refused(model):
    with pytest.raises(ValueError, match="format must be one of onnx, torch-export, got 'torchscript'"):
        export_model(model, "torchscript")


def test_what_is_no_model_is_wrong_usage(tmp_path, capsys):
    assert command.main(["--model", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "model must be a folder with" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
