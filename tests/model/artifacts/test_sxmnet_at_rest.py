"""Save, export and score SXMNet with every engine; its ONNX export is tested in `test_export`."""

import dataclasses

import pytest
import torch

from model.artifacts.export import export_model
from model.artifacts.onnx_network import output_names
from model.artifacts.saved_model import load_model, save_model
from model.hardware import detect_hardware
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.registry import build_network
from model.scoring.engine_selection import EngineSpec
from model.scoring.engines import build_engine
from model.scoring.scorer import Scorer, ShardFiles
from model.scoring.scoring_network import ScoringNetwork
from shards.format.shard_reader import read_rows
from tests.shards.by_hand import CLASSES, make_jpeg, write_dataset

CONFIG = ModelConfig(
    network="sxmnet",
    backbone="resnet10t",
    classes=CLASSES,
    input=InputConfig(size_px=64),
    fusion="meta",
    attention=AttentionConfig(),
)
CPU = dataclasses.replace(detect_hardware(), device="cpu", dtype="float32", decode_device="cpu", num_cores=2)
NAMES = ["logits", "level_logits", "heatmap_1", "heatmap_2", "heatmap_3", "level_weights", "attention"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    url = str(tmp_path_factory.mktemp("model"))
    save_model(url, build_network(CONFIG), CONFIG)
    return load_model(url)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "onnxruntime"])
def test_every_output_of_an_engine_equals_the_networks(model, engine):
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        expected = dict(model.network(images).named_tensors())
    found = dict(build_engine(EngineSpec(engine, "float32"), model.network, CONFIG, CPU)(images).named_tensors())
    assert list(found) == list(expected) == output_names(CONFIG) == NAMES
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_torch_program_names_weights_and_mask(model):
    _, document = export_model(model, "torch-export")
    assert document["outputs"] == NAMES


def test_a_scan_becomes_a_row_with_the_weighted_logit(model, tmp_path):
    name = "test-00000-of-00001"
    dataset = write_dataset(tmp_path, {name: [(f"N{number:05d}", make_jpeg(number)) for number in range(5)]})
    (info,) = dataset.shards()
    rows = read_rows(dataset.samples_url(info), info.num_scans)
    scores = Scorer(ScoringNetwork(model, CPU), batch_size=2).score_shard(ShardFiles.of(dataset, info))
    assert scores.predictions.num_rows == 5
    for row, found in zip(rows, scores.predictions.to_pylist(), strict=True):
        for class_name in CLASSES:
            levels = [level[class_name] for level in found["level_logits"]]
            assert min(levels) - 1e-4 <= found["logits"][class_name] <= max(levels) + 1e-4
            peak = found["peaks"][class_name]
            assert 0 < peak["x_px"] < row.width_px and 0 < peak["y_px"] < row.height_px
