from dataclasses import replace

import pytest
import torch

from model.networks.config import ModelConfig
from model.networks.registry import build_network
from model.training.checkpoints import read_checkpoint
from model.training.optimizer import build_optimizer
from model.training.trainer import train
from tests.model.scans import make_dataset
from tests.model.training.test_trainer import FLOAT32, TINY


def test_each_stage_before_the_heads_learns_at_a_share_of_the_rate_of_the_next():
    network = build_network(ModelConfig(network="chr", backbone="test_resnet", classes=("Gun",)))
    config = replace(TINY, learning_rate=0.02, layer_decay=0.5, classifier_rate=3.0)
    optimizer = build_optimizer(config, network)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    distances = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    for name, parameter in network.named_parameters():
        part, layer, *_ = name.split(".")
        factor = {"refiners": 1.0, "classifiers": 3.0}[part] if part != "backbone" else 0.5 ** distances[layer]
        assert rates.pop(parameter) == pytest.approx(0.02 * factor), name
    assert not rates
    assert optimizer.param_groups[0]["lr"] == 0.02, "the rate that is logged"


def test_frozen_stages_keep_weights_and_statistics_through_epochs_and_validation(tmp_path):
    dataset = make_dataset(tmp_path / "dataset", num_train=16)
    train(dataset, str(tmp_path / "run"), replace(TINY, frozen_stages=2), hardware=FLOAT32)
    torch.manual_seed(TINY.seed)
    fresh = build_network(ModelConfig(backbone="test_resnet", classes=dataset.manifest.scored_classes)).state_dict()
    last = read_checkpoint(str(tmp_path / "run/checkpoints/last.ckpt"))["state_dict"]
    same = {name for name, value in fresh.items() if torch.equal(value, last[f"network.{name}"])}
    assert same == {name for name in fresh if name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1"))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\], got 0.0"),
        ({"layer_decay": 1.5}, r"layer_decay must be in \(0, 1\], got 1.5"),
        ({"frozen_stages": -1}, "frozen_stages must be >= 0, got -1"),
    ],
)
def test_rates_and_stages_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
