"""Check the datasets that a job takes, and what follows from them: what `reshard` and `project` share."""

from collections.abc import Sequence
from typing import Any

from shards import storage
from shards.curation.corrections import earlier_rows
from shards.format.dataset import Dataset
from shards.format.manifest import MANIFEST_NAME
from shards.writing.output_folder import check_output


def check_places(output: str, inputs: Sequence[Dataset]) -> None:
    """Raise ValueError if the output is an input, lies within one, holds one, or holds something else."""
    folder = f"{storage.normalise_url(output)}/"
    for dataset in inputs:
        if folder.startswith(f"{dataset.url}/") or f"{dataset.url}/".startswith(folder):
            raise ValueError(f"output must be a folder apart from the inputs, got {output} beside {dataset.url}")
    check_output(output)


def last_change_of(inputs: Sequence[Dataset]) -> float | None:
    """Return when a manifest of the inputs was last written; None if that is unknown, as on a store."""
    found = [storage.last_change(storage.join_url(item.url, MANIFEST_NAME)) for item in inputs]
    return None if None in found else max(when for when in found if when is not None)


def recorded_shard_bytes(inputs: Sequence[Dataset]) -> int | None:
    """Return the bytes in a shard that all inputs were made with, None if they differ or do not say."""
    found = {dataset.manifest.options.get("shard_bytes") for dataset in inputs}
    value = found.pop() if len(found) == 1 else None
    return value if isinstance(value, int) else None


def list_corrected(inputs: Sequence[Dataset]) -> list[dict[str, Any]]:
    """Return the rows of the inputs' tables of corrections."""
    return [row for dataset in inputs for row in earlier_rows(dataset)]


def describe_inputs(inputs: Sequence[Dataset]) -> list[dict[str, Any]]:
    """Return what the manifest says about the datasets that another one was made of."""
    return [{"url": storage.as_uri(item.url), "digest": item.manifest.digest} for item in inputs]
