"""Divide a backbone into stages, the layers from one halving of its maps to the next, and freeze the first of them."""

import re

from torch import nn


def backbone_stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """Return the modules of each stage of a backbone of `model.networks.backbones`, first stage first.

    A stage ends with the module whose output timm lists as the features of a stride; what follows the last of them
    belongs to it. A ResNet has five: its first convolution, then `layer1` to `layer4`. Every module is in one stage,
    beside its children: use `parameters(recurse=False)`.

    Raises:
        ValueError: timm names modules that the backbone does not have under these names.
    """
    modules = dict(backbone.named_modules())
    # Wrappers put a prefix before timm's names, and a list of features writes `stages_0` for `stages.0`.
    names = [re.sub(r"^(body\.|model\.)*", "", name).replace(".", "_") + "_" for name in modules]
    ends = []
    for level in backbone.feature_info.info:  # type: ignore[union-attr]
        prefix = level["module"].replace(".", "_") + "_"
        places = [place for place, name in enumerate(names) if name.startswith(prefix)]
        if not places:
            raise ValueError(
                f"backbone must have the stages that timm lists, got none called {level['module']!r} "
                f"({type(backbone).__name__}); use no frozen stages and no layer_decay with it"
            )
        ends.append(places[-1] + 1)
    starts = [0, *ends[:-1]]
    ends[-1] = len(modules)
    return [list(modules.values())[start:end] for start, end in zip(starts, ends, strict=True)]


def freeze_stages(backbone: nn.Module, num_stages: int) -> None:
    """Freeze the first stages of a backbone, in place: their weights take no gradient, their batch norms no statistics.

    Raises:
        ValueError: the backbone has fewer stages.
    """
    stages = backbone_stages(backbone)
    if num_stages > len(stages):
        raise ValueError(f"frozen_stages must be <= {len(stages)}, the stages of the backbone, got {num_stages}")
    for module in (module for stage in stages[:num_stages] for module in stage):
        module.training = False  # not `eval()`, which reaches children of later stages too
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
