"""A shard's scores on a GPU are those of the processor, in float32 and in bf16."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.artifacts.saved_model import load_model, save_model
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.registry import build_network
from model.scoring.engine_selection import EngineRequest
from model.scoring.scorer import Scorer
from model.scoring.scoring_network import ScoringNetwork
from tests.bench.scoring import make_scans
from tests.gpu.machines import CPU, GPU
from tests.shards.by_hand import CLASSES, bogus_huffman, write_dataset

SCANS = make_scans(26)
BAD = 7
SYSTEMS = {
    "chr": ModelConfig(backbone="resnet18", classes=CLASSES),
    "trimmed": ModelConfig(backbone="resnet18", classes=CLASSES, input=InputConfig(trim_margins=True)),
    "sxmnet": ModelConfig(network="sxmnet", backbone="resnet18", classes=CLASSES, attention=AttentionConfig()),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    images = [(f"N{n:05d}", bogus_huffman(scan) if n == BAD else scan) for n, scan in enumerate(SCANS)]
    shards = {"test-00000-of-00002": images[:15], "test-00001-of-00002": images[15:]}
    return write_dataset(tmp_path_factory.mktemp("data"), shards)


@pytest.fixture(scope="module", params=SYSTEMS)
def model(request, tmp_path_factory):
    torch.manual_seed(0)
    config = SYSTEMS[request.param]
    folder = str(tmp_path_factory.mktemp("model"))
    save_model(folder, build_network(config), config)
    return load_model(folder)


@pytest.fixture(scope="module")
def on_cpu(model, dataset):
    return score(model, dataset, CPU, "float32", 8)


def score(model, dataset, hardware, dtype, batch_size, engine="eager"):
    network = ScoringNetwork(model, replace(hardware, dtype=dtype), EngineRequest(engine=engine, dtype=dtype))
    return Scorer(network, batch_size=batch_size).score_split(dataset, "test")


def logits_of(table):
    return np.array([list(row.values()) for row in table["logits"].to_pylist()])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.05)])
def test_logits_are_the_processors_within_a_stated_tolerance(model, dataset, on_cpu, dtype, tolerance):
    found = score(model, dataset, GPU, dtype, 8)
    assert found["key"].to_pylist() == on_cpu["key"].to_pylist()
    assert len(found) == len(SCANS) - 1  # all but the bad one
    assert np.abs(logits_of(found) - logits_of(on_cpu)).max() < tolerance


@pytest.mark.parametrize("batch_size", [4, 26, 64])
def test_scores_do_not_depend_on_the_size_of_a_batch_nor_on_a_short_last_one(model, dataset, batch_size):
    found, expected = (score(model, dataset, GPU, "float32", size) for size in (batch_size, 8))
    assert np.abs(logits_of(found) - logits_of(expected)).max() < 1e-4


def test_peaks_are_the_processors_but_for_ties(model, dataset, on_cpu):
    found = score(model, dataset, GPU, "float32", 8)
    far = [
        max(abs(here[axis] - there[axis]) for axis in ("x_px", "y_px")) > 2
        for row, expected in zip(found["peaks"].to_pylist(), on_cpu["peaks"].to_pylist(), strict=True)
        for here, there in zip(row.values(), expected.values(), strict=True)
    ]
    assert np.mean(far) < 0.1  # weights are random, so heatmaps are flat
