import json
from dataclasses import replace

import pytest

from model.config import ModelConfig
from model.network import build_network
from model.recipes import RECIPES
from model.train_config import CosineSchedule, Sgd


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_carries_its_name_and_a_network_that_can_be_built(name):
    config = RECIPES[name]()
    assert config.recipe == name
    assert json.loads(json.dumps(config.to_json())) == config.to_json()
    build_network(
        ModelConfig(
            network=config.network,
            backbone=config.backbone,
            num_levels=config.num_levels,
            classes=("Gun",),
            image_size_px=config.image_size_px,
        )
    )


@pytest.mark.parametrize("name", ["default", "demo"])
def test_recipes_for_any_machine_need_no_pretrained_weights(name):
    assert RECIPES[name]().pretrained is False


def test_the_papers_recipes_have_its_code_s_settings():
    config = RECIPES["chr_resnet34_sixray10"]()
    assert (config.image_size_px, config.resize_px) == (224, 256)
    assert (config.learning_rate, config.optimizer) == (0.01, Sgd(momentum=0.9, weight_decay=1e-4))
    assert config.positive_repeats == 1
    assert (config.network, config.num_levels, config.loss.balanced) == ("chr", 3, True)


def test_every_setting_enters_the_recorded_config():
    config = RECIPES["default"]()
    changed = [
        replace(config, seed=1),
        replace(config, optimizer=Sgd(momentum=0.5)),
        replace(config, optimizer=Sgd()),
        replace(config, loss=replace(config.loss, threshold=0.2)),
        replace(config, schedule=CosineSchedule(warmup_fraction=0.3)),
        replace(config, schedule=RECIPES["chr_resnet34_sixray10"]().schedule),
    ]
    documents = [json.dumps(each.to_json(), sort_keys=True) for each in (config, *changed)]
    assert len(set(documents)) == len(documents)
