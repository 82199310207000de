"""What do predictions hold? Their parts and `run.json`, and readers of both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from shards import storage
from shards.dataset import read_parquet
from shards.schema import QUARANTINE_SCHEMA

FORMAT_VERSION = 1
RUN_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one model said of one dataset: the folder `PREDICTIONS/<model-id>`."""

    url: str
    run: dict[str, Any]
    """`run.json`: at least format, model_id, classes, dataset_digest, parts (a list of shard names), counts."""

    @property
    def model_id(self) -> str:
        """`<network>-<backbone>-<first 12 hex digits of the sha256 over weights and config>`."""
        return str(self.run["model_id"])

    def read_rows(self, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the predictions of a split (or all), in shard and tar order."""
        names = [name for name in self.run["parts"] if split is None or name.startswith(f"{split}-")]
        if not names:
            raise ValueError(f"predictions must have a part of split {split!r}, got {self.run['parts']} ({self.url})")
        tables = [read_parquet(part_url(self.url, name), columns) for name in names]
        return pa.concat_tables(tables).replace_schema_metadata(None)

    def read_quarantine(self) -> pa.Table:
        """Return the samples that could not be scored, each with its reason."""
        tables = [
            read_parquet(url)
            for url in (quarantine_part_url(self.url, name) for name in self.run["parts"])
            if storage.exists(url)
        ]
        return pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *tables]).replace_schema_metadata(None)


def part_url(predictions_url: str, shard_name: str) -> str:
    """Return where the predictions of one shard are."""
    return storage.join_url(predictions_url, f"{shard_name}.parquet")


def quarantine_part_url(predictions_url: str, shard_name: str) -> str:
    """Return where the samples of one shard are named that could not be scored, if any."""
    return storage.join_url(predictions_url, "quarantine", f"{shard_name}.parquet")


def open_predictions(url: str) -> Predictions:
    """Return finished predictions.

    Raises:
        ValueError: there is no `run.json` (unfinished, or another folder), or it is damaged or of another format.
    """
    root = storage.normalise_url(url)
    run_url = storage.join_url(root, RUN_NAME)
    try:
        run = json.loads(storage.read_bytes(run_url))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"predictions must have a {RUN_NAME}, got none ({root}); name the folder of one model "
            f"(PREDICTIONS/<model-id>), or run the same `sixray score` again, it resumes"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{RUN_NAME} must be a JSON document, got {error} ({run_url})") from error
    if not isinstance(run, dict) or run.get("format") != FORMAT_VERSION:
        found = run.get("format") if isinstance(run, dict) else type(run).__name__
        raise ValueError(f"predictions must have format {FORMAT_VERSION}, got {found!r} ({run_url})")
    return Predictions(root, run)
