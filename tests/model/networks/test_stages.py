from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from model.networks.backbones import build_backbone
from model.networks.stages import backbone_stages, freeze_stages

NUM_STAGES = {
    "test_resnet": 5,
    "test_convnext": 4,
    "tf_efficientnet_lite0": 5,
    "mobilenetv3_small_100": 5,
    "densenet121": 5,
    "regnety_002": 5,
}


def own_parameters(modules):
    return [parameter for module in modules for parameter in module.parameters(recurse=False)]


@pytest.mark.parametrize(("name", "num_stages"), NUM_STAGES.items())
def test_the_features_of_a_stage_come_of_its_layers_and_those_before_it(name, num_stages):
    backbone = build_backbone(name, 2, image_size_px=64, complete_levels=name != "densenet121")
    stages = backbone_stages(backbone)
    assert len(stages) == num_stages
    found = Counter(id(module) for stage in stages for module in stage)
    assert found == Counter(id(module) for module in backbone.modules())
    features = backbone(torch.rand(2, 3, 64, 64))
    for level, level_features in enumerate(features, start=len(stages) - 1):
        backbone.zero_grad(set_to_none=True)
        level_features.square().sum().backward(retain_graph=True)
        learnt = {id(parameter) for parameter in backbone.parameters() if parameter.grad is not None}
        assert learnt == {id(parameter) for stage in stages[:level] for parameter in own_parameters(stage)}


def test_frozen_stages_take_no_gradient_and_no_statistics_and_later_ones_do():
    backbone = build_backbone("tf_efficientnet_lite0", 3, image_size_px=64, complete_levels=True)
    freeze_stages(backbone, 3)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    sum(features.square().sum() for features in backbone(torch.rand(2, 3, 64, 64))).backward()
    stages = backbone_stages(backbone)
    frozen = {id(module) for stage in stages[:3] for module in stage}
    after = backbone.state_dict()
    norms = {name: module for name, module in backbone.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, module in norms.items():
        same = torch.equal(after[f"{name}.running_mean"], before[f"{name}.running_mean"])
        assert same == (id(module) in frozen), name
    assert all(parameter.grad is None for stage in stages[:3] for parameter in own_parameters(stage))
    assert all(parameter.grad is not None for stage in stages[3:] for parameter in own_parameters(stage))


def test_more_stages_than_a_backbone_has_cannot_be_frozen():
    with pytest.raises(ValueError, match="frozen_stages must be <= 5, the stages of the backbone, got 6"):
        freeze_stages(build_backbone("test_resnet", 2), 6)


def test_a_backbone_whose_modules_have_other_names_than_timm_lists_is_refused():
    backbone: Any = build_backbone("test_resnet", 2)
    backbone.feature_info.info[1]["module"] = "layer9"
    with pytest.raises(ValueError, match=r"stages that timm lists, got none called 'layer9' \(FeatureListNet\)"):
        backbone_stages(backbone)
