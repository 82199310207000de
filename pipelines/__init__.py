"""Jobs on Apache Beam and the command line: a module is a job is a command; a job is a function of one config."""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.alarms import AlarmsConfig, write_alarms
    from pipelines.convert import ConvertConfig, convert_corpus
    from pipelines.evaluate import EvaluateConfig, write_report
    from pipelines.reshard import ReshardConfig, reshard_datasets
    from pipelines.score import ScoreConfig, score_datasets
    from pipelines.synth import SynthConfig, generate_corpus
    from pipelines.train import TrainJobConfig, train_network
    from pipelines.verify import VerifyConfig, verify_folder

__all__ = [
    "AlarmsConfig",
    "ConvertConfig",
    "EvaluateConfig",
    "ReshardConfig",
    "ScoreConfig",
    "SynthConfig",
    "TrainJobConfig",
    "VerifyConfig",
    "convert_corpus",
    "generate_corpus",
    "reshard_datasets",
    "score_datasets",
    "train_network",
    "verify_folder",
    "write_alarms",
    "write_report",
]

_HOMES = {
    "alarms": ("AlarmsConfig", "write_alarms"),
    "convert": ("ConvertConfig", "convert_corpus"),
    "evaluate": ("EvaluateConfig", "write_report"),
    "reshard": ("ReshardConfig", "reshard_datasets"),
    "score": ("ScoreConfig", "score_datasets"),
    "synth": ("SynthConfig", "generate_corpus"),
    "train": ("TrainJobConfig", "train_network"),
    "verify": ("VerifyConfig", "verify_folder"),
}

# Beam warns at import that its optional BigQuery client is absent; nothing here uses it.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))


def __getattr__(name: str) -> Any:
    # Loaded at first use, so that `import pipelines` loads neither Beam nor PyTorch.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pipelines.{module}"), name)
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
