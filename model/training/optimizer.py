"""Build the optimizer of a run, with a learning rate for every layer."""

from typing import Any

import torch
from torch import nn

from model.networks.registry import fully_connected_parameters
from model.networks.stages import backbone_stages
from model.training.config import AdamW, Sgd, TrainConfig


def build_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a config for a network's parameters."""
    rate, parameters = config.learning_rate, group_parameters(config, network)
    match config.optimizer:
        case Sgd(momentum=momentum, weight_decay=weight_decay):
            return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=weight_decay)
        case AdamW(weight_decay=weight_decay):
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)


def group_parameters(config: TrainConfig, network: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters by learning rate; the group with the config's own comes first.

    `timm.optim.param_groups_layer_decay` needs names that networks cut at features lack, and takes the weight decay of
    biases and norms away.
    """
    factors = dict.fromkeys(fully_connected_parameters(network), config.classifier_rate)
    if config.layer_decay != 1:
        backbone: nn.Module = network.backbone  # type: ignore[assignment]
        for distance, stage in enumerate(reversed(backbone_stages(backbone)), start=1):
            for parameter in (parameter for module in stage for parameter in module.parameters(recurse=False)):
                factors[parameter] = config.layer_decay**distance
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in network.parameters():
        groups.setdefault(factors.get(parameter, 1.0), []).append(parameter)
    return [{"params": members, "lr": config.learning_rate * factor} for factor, members in groups.items()]
