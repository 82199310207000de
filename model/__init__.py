"""Networks, training, scoring and evaluation; the names below are imported on first use, so `import model` is cheap."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.artifacts.saved_model import LoadedModel, load_model, save_model
    from model.evaluation.evaluate import Evaluation, evaluate
    from model.hardware import Hardware, detect_hardware
    from model.metrics.arrays import average_precision, roc_auc
    from model.metrics.pointing import points_hit
    from model.networks.config import AttentionConfig, InputConfig, ModelConfig
    from model.networks.registry import NETWORKS, build_network
    from model.recipes.registry import RECIPES
    from model.scoring.scorer import Scorer, ScoringNetwork
    from model.training.config import TrainConfig
    from model.training.trainer import TrainResult, train

__all__ = [
    "NETWORKS",
    "RECIPES",
    "AttentionConfig",
    "Evaluation",
    "Hardware",
    "InputConfig",
    "LoadedModel",
    "ModelConfig",
    "Scorer",
    "ScoringNetwork",
    "TrainConfig",
    "TrainResult",
    "average_precision",
    "build_network",
    "detect_hardware",
    "evaluate",
    "load_model",
    "points_hit",
    "roc_auc",
    "save_model",
    "train",
]

_MODULES = {
    "artifacts.saved_model": ("LoadedModel", "load_model", "save_model"),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "hardware": ("Hardware", "detect_hardware"),
    "metrics.arrays": ("average_precision", "roc_auc"),
    "metrics.pointing": ("points_hit",),
    "networks.config": ("AttentionConfig", "InputConfig", "ModelConfig"),
    "networks.registry": ("NETWORKS", "build_network"),
    "recipes.registry": ("RECIPES",),
    "scoring.scorer": ("Scorer", "ScoringNetwork"),
    "training.config": ("TrainConfig",),
    "training.trainer": ("TrainResult", "train"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"model.{module}"), name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
