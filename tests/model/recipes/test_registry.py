import json
from dataclasses import replace
from itertools import product

import pytest
import torch

from model.inputs.augmentation import AugmentationConfig
from model.networks.config import ModelConfig
from model.networks.registry import build_network
from model.networks.weights import find_package
from model.recipes.chr import ABLATIONS, BACKBONES, SUBSETS
from model.recipes.registry import RECIPES
from model.training.config import CosineSchedule, Sgd, StepSchedule
from model.training.losses import AuthorsLossConfig, LossConfig, SoftmaxConfig


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_carries_its_name(name):
    config = RECIPES[name]()
    assert config.recipe == name
    assert json.loads(json.dumps(config.to_json())) == config.to_json()


PARTS = ("network", "backbone", "num_levels", "fusion", "attention")
NETWORKS_OF_RECIPES = {tuple(getattr(make(), part) for part in PARTS) for make in RECIPES.values()}


@pytest.mark.parametrize("parts", sorted(NETWORKS_OF_RECIPES, key=str), ids=str)
def test_every_network_that_a_recipe_names_can_be_built(parts):
    with torch.device("meta"):
        build_network(ModelConfig(**dict(zip(PARTS, parts, strict=True)), classes=("Gun",)))


def test_every_row_of_tables_2_3_and_4_has_a_recipe():
    names = {f"{system}_{backbone}" for system, backbone in product(("plain", "chr"), BACKBONES)}
    names |= {f"{system}_resnet34" for system in ABLATIONS}
    assert len(names) == 13
    assert {f"{name}_sixray{subset}" for name, subset in product(names, SUBSETS)} <= RECIPES.keys()


@pytest.mark.parametrize("name", ["default", "demo"])
def test_recipes_for_any_machine_start_from_weights_that_need_no_hub(name):
    config = RECIPES[name]()
    assert config.pretrained and config.backbone_weights is None
    assert find_package(config.backbone) is not None


def test_levels_of_a_densenet_end_with_norm_and_relu():
    complete = {name for name, make in RECIPES.items() if make().complete_levels}
    assert complete == {"default", "demo", *(name for name in RECIPES if "densenet121" in name)}


def test_the_papers_recipes_have_its_code_s_settings():
    """CHR/main.py, CHR/engine.py and runme.sh: --batch-size 320 on two GPUs, 15 epochs, a drop at epoch 20 alone."""
    config = RECIPES["chr_resnet101_sixray10"]()
    assert (config.image_size_px, config.resize_px) == (224, 256)
    assert (config.learning_rate, config.optimizer) == (0.01, Sgd(momentum=0.9, weight_decay=1e-4))
    assert (config.max_epochs, config.batch_size * config.accumulate_batches) == (15, 320)
    assert {config.schedule.factor(progress) for progress in (0.0, 0.5, 1.0)} == {1.0}
    assert (config.positive_repeats, config.positive_fraction) == (1, 0.0)
    assert (config.network, config.num_levels, config.loss) == ("chr", 3, LossConfig(balanced=True))
    assert (config.backbone, config.pretrained) == ("resnet101.tv_in1k", True)


def test_the_authors_chr_differs_from_that_of_the_paper_in_graph_loss_and_prediction_alone():
    paper, found = RECIPES["chr_resnet101_sixray10"](), RECIPES["chr_authors_resnet101"]()
    assert found == replace(
        paper, recipe=found.recipe, network="chr_authors", fusion="top", loss=AuthorsLossConfig(threshold=-20)
    )
    for name, trim_margins in (("sixray", False), ("opixray", True)):
        recipe = f"chr_authors_resnet101_{name}"
        assert RECIPES[recipe]() == replace(found, recipe=recipe, trim_margins=trim_margins)


@pytest.mark.parametrize("network", ["plain", "chr"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_natural_images_of_one_class_are_trained_by_the_standard_and_a_soft_max(network, backbone):
    config = RECIPES[f"{network}_{backbone}_ilsvrc2012"]()
    assert (config.loss, config.pretrained) == (SoftmaxConfig(), False)
    rates = [config.learning_rate * config.schedule.factor(epoch / config.max_epochs) for epoch in (29, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    ("system", "num_levels", "balanced"),
    [("plain", 1, False), ("h", 3, False), ("ch", 3, True), ("hr", 3, False), ("chr", 3, True)],
)
def test_the_ablations_differ_in_network_levels_and_loss_alone(system, num_levels, balanced):
    config = RECIPES[f"{system}_resnet34_sixray100"]()
    assert (config.network, config.num_levels, config.loss) == (system, num_levels, LossConfig(balanced=balanced))
    whole = RECIPES["chr_resnet34_sixray100"]()
    assert replace(config, recipe=whole.recipe, network="chr", num_levels=3, loss=whole.loss) == whole


def test_inception_sees_the_size_that_is_its_convention():
    config = RECIPES["chr_inception_v3_sixray10"]()
    assert (config.image_size_px, config.resize_px) == (299, 342)


def test_every_setting_enters_the_recorded_config():
    config = RECIPES["default"]()
    changed = [
        replace(config, seed=1),
        replace(config, optimizer=Sgd(momentum=0.5)),
        replace(config, optimizer=Sgd()),
        replace(config, loss=LossConfig(threshold=0.2)),
        replace(config, loss=SoftmaxConfig()),
        replace(config, schedule=CosineSchedule(warmup_fraction=0.3)),
        replace(config, schedule=StepSchedule()),
        replace(config, localization=1.0),
        replace(config, ema_decay=0.9),
        replace(config, layer_decay=0.9),
        replace(config, frozen_stages=1),
        replace(config, complete_levels=False),
        replace(config, augmentation=AugmentationConfig(scale=0.11)),
        replace(config, augmentation=replace(config.augmentation, mixed=0.5)),
        replace(config, augmentation=replace(config.augmentation, projected=0.5)),
    ]
    documents = [json.dumps(each.to_json(), sort_keys=True) for each in (config, *changed)]
    assert len(set(documents)) == len(documents)
