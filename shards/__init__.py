"""Read and write the formats at rest: datasets, predictions and their samples. No Beam, no PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shards.format.classes import ClassSet, load_class_set
    from shards.format.dataset import Dataset, open_dataset
    from shards.format.sample_json import Box
    from shards.format.schemas import QUARANTINE_SCHEMA, predictions_schema, samples_schema
    from shards.format.shard_reader import read_image
    from shards.format.webdataset_reader import open_webdataset
    from shards.predictions.run import Predictions, open_predictions

__all__ = [
    "QUARANTINE_SCHEMA",
    "Box",
    "ClassSet",
    "Dataset",
    "Predictions",
    "load_class_set",
    "open_dataset",
    "open_predictions",
    "open_webdataset",
    "predictions_schema",
    "read_image",
    "samples_schema",
]

_HOMES = {
    "shards.format.classes": ("ClassSet", "load_class_set"),
    "shards.format.dataset": ("Dataset", "open_dataset"),
    "shards.format.sample_json": ("Box",),
    "shards.format.schemas": ("QUARANTINE_SCHEMA", "predictions_schema", "samples_schema"),
    "shards.format.shard_reader": ("read_image",),
    "shards.format.webdataset_reader": ("open_webdataset",),
    "shards.predictions.run": ("Predictions", "open_predictions"),
}


def __getattr__(name: str) -> Any:
    # Loaded at first use, so that importing one room does not load them all.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'shards' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
