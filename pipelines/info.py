"""Describe a dataset, predictions or a model."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from pipelines.runtime import command_line
from pipelines.runtime.flags import NAMES, Flag, make_config
from shards import storage
from shards.curation.findings import describe_findings, describe_groups, describe_mixed_formats
from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import MANIFEST_NAME
from shards.format.parquet import QUARANTINE_SCHEMA, read_parquet
from shards.predictions.run import RUN_NAME, open_predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    folder: Annotated[str, Flag("folder")]
    """A dataset, PREDICTIONS/<model-id> or a model folder."""
    json: bool = False
    """Print one JSON document."""
    quarantine: bool = False
    """List what a dataset or predictions refused: reason, key, file and detail of each, separated by tabs."""
    reason: Annotated[tuple[str, ...], NAMES] = ()
    """Reasons to list with --quarantine; all if not given."""

    def __post_init__(self) -> None:
        if self.reason and not self.quarantine:
            raise ValueError(f"reason must come with --quarantine, got {', '.join(self.reason)} alone")


def describe(url: str) -> dict[str, Any]:
    """Return what a folder holds, as a JSON document; `kind` is dataset, predictions or model.

    Raises:
        ValueError: the folder is none of the three.
    """
    if storage.exists(storage.join_url(url, MANIFEST_NAME)):
        return {"kind": "dataset"} | _describe_dataset(open_dataset(url))
    if storage.exists(storage.join_url(url, RUN_NAME)):
        return {"kind": "predictions"} | open_predictions(url).run
    if storage.exists(storage.join_url(url, "config.json")):
        # PyTorch is needed for models alone; a machine that only converts has none.
        from model.artifacts.saved_model import describe_model

        return {"kind": "model"} | describe_model(url)
    expected = f"{MANIFEST_NAME}, {RUN_NAME} or config.json"
    raise ValueError(
        f"folder must hold {expected}, got none of them ({storage.normalise_url(url)}); "
        f"an unfinished dataset or run has none yet: run the same command again, it resumes"
    )


def _describe_dataset(dataset: Dataset) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(dataset.manifest.to_json())
    labels = dataset.read_samples(columns=["split", "labels", "duplicate_of"])
    positives: dict[str, dict[str, int]] = {}
    for split in dataset.manifest.splits:
        chosen = labels.filter(pc.equal(labels["split"], split))["labels"].combine_chunks()
        positives[split] = {
            name: chosen.field(name).to_pylist().count(1) if len(chosen) else 0 for name in document["classes"]
        }
    num_duplicates = len(labels) - labels["duplicate_of"].null_count
    return document | {"positives": positives, "num_duplicates": num_duplicates}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    flags = make_config(_Flags, make_parser().parse_args(argv))
    if flags.quarantine:
        return _list_quarantine(flags)
    document = describe(flags.folder)
    if flags.json:
        print(json.dumps(document, indent=1))
    elif document["kind"] == "dataset":
        _print_dataset(document, open_dataset(flags.folder))
    else:
        _print_facts(document)
    return command_line.OK


def _list_quarantine(flags: _Flags) -> int:
    rows = read_quarantine(flags.folder)
    known = sorted(set(rows["reason"].to_pylist()))
    if absent := sorted(set(flags.reason) - set(known)):
        raise ValueError(f"reason must be one of {known}, got {', '.join(absent)} ({flags.folder})")
    if flags.reason:
        rows = rows.filter(pc.is_in(rows["reason"], pa.array(flags.reason)))
    if flags.json:
        print(json.dumps(rows.to_pylist(), indent=1))
        return command_line.OK
    for row in rows.to_pylist():
        print("\t".join(row[name] for name in ("reason", "key", "source_uri", "detail")))
    return command_line.OK


def read_quarantine(url: str) -> pa.Table:
    """Return what a dataset or predictions refused, ordered by reason and key.

    Raises:
        ValueError: the folder is neither, or unfinished.
    """
    if not any(storage.exists(storage.join_url(url, name)) for name in (MANIFEST_NAME, RUN_NAME)):
        raise ValueError(f"folder must hold {MANIFEST_NAME} or {RUN_NAME}, got neither ({storage.normalise_url(url)})")
    files = storage.list_files(storage.join_url(url, "quarantine"))
    tables = [read_parquet(info.url) for info in files if info.url.endswith(".parquet")]
    table = pa.concat_tables(tables) if tables else QUARANTINE_SCHEMA.empty_table()
    return table.sort_by([("reason", "ascending"), ("key", "ascending"), ("source_uri", "ascending")])


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser("info", _Flags, "Describe a dataset, predictions or a model.")


def _print_dataset(document: dict[str, Any], dataset: Dataset) -> None:
    ledger = document["ledger"]["splits"]
    table = Table("split", "listed", "converted", "quarantined", "shards", "image GB", *document["classes"])
    for split, totals in document["splits"].items():
        counts = ledger[split]
        table.add_row(
            split,
            *(f"{counts[name]:,}" for name in ("listed", "converted", "quarantined")),
            f"{totals['num_shards']:,}",
            f"{totals['image_bytes'] / 1e9:.3f}",
            *(f"{document['positives'][split][name]:,}" for name in document["classes"]),
        )
    # Off a terminal a table is as wide as it needs to be: no figure is cut.
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
    for line in (*describe_findings(document), *describe_groups(dataset), *describe_mixed_formats(dataset)):
        print(line)
    _print_facts({name: document[name] for name in ("kind", "digest", "num_duplicates", "options", "versions")})


def _print_facts(document: dict[str, Any]) -> None:
    for name, value in document.items():
        print(f"{name}: {value if isinstance(value, str | int | float) else json.dumps(value)}")


if __name__ == "__main__":
    sys.exit(main())
