"""Write the card of a dataset, a model or a report: README.md, and croissant.json beside that of a dataset."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag, make_config
from shards import storage
from shards.cards.card_file import CARD_NAME, check_replaceable
from shards.cards.croissant import CROISSANT_NAME, croissant_json
from shards.cards.dataset_card import dataset_card, describe_dataset
from shards.format.dataset import open_dataset
from shards.format.manifest import MANIFEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class CardConfig:
    """What to describe."""

    folder: Annotated[str, Flag("folder")]
    """A dataset, a model folder or a REPORT_DIR."""
    output: str | None = None
    """Folder for the card; the described folder itself if not given, as hubs want it."""
    name: str | None = None
    """Title of a dataset; the name of its folder if not given."""
    license: str | None = None
    """License of the scans or weights, as the Hugging Face hub calls it, e.g. cc-by-4.0."""
    report: str | None = None
    """REPORT_DIR of a model, whose figures its card shows."""


def write_card(config: CardConfig) -> list[str]:
    """Write the card; return the URLs of its files.

    Raises:
        ValueError: the folder is none of the three, the report is another model's, or a file is in the way.
    """
    files = make_files(config)
    output = config.output or config.folder
    check_replaceable(output, files)
    urls = [storage.join_url(output, name) for name in files]
    for url, content in zip(urls, files.values(), strict=True):
        storage.write_bytes(url, content)
    return urls


def make_files(config: CardConfig) -> dict[str, bytes]:
    """Return the files of a card by name."""
    if storage.exists(storage.join_url(config.folder, MANIFEST_NAME)):
        return _describe_dataset(config)
    if config.name:
        raise ValueError(f"name must be of a dataset, got {config.name!r} for another folder ({config.folder})")
    if storage.exists(storage.join_url(config.folder, "config.json")):
        return {CARD_NAME: _describe_model(config)}
    if config.license or config.report:
        raise ValueError(f"license and report must be of a dataset or a model, got them for neither ({config.folder})")
    if storage.exists(storage.join_url(config.folder, "metrics.json")):
        from model.cards.report_card import report_card
        from model.reports.metrics_json import read_metrics

        return {CARD_NAME: report_card(read_metrics(config.folder))}
    raise ValueError(
        f"folder must hold {MANIFEST_NAME}, config.json or metrics.json, got none of them "
        f"({storage.normalise_url(config.folder)})"
    )


def _describe_dataset(config: CardConfig) -> dict[str, bytes]:
    if config.report:
        raise ValueError(f"report must be of a model, got one for a dataset ({config.folder})")
    dataset = open_dataset(config.folder)
    name = config.name or storage.base_name(dataset.url)
    about = {"name": name, "description": describe_dataset(dataset)}
    if config.license:
        about["license"] = config.license
    card = dataset_card(dataset, name, config.license)
    return {CROISSANT_NAME: croissant_json(dataset, about), CARD_NAME: card}


def _describe_model(config: CardConfig) -> bytes:
    # The extra `report` is needed for models and reports alone; a machine that only converts has none.
    from model.artifacts.model_files import read_model_files
    from model.cards.model_card import model_card

    files = read_model_files(config.folder)
    return model_card(files, config.license, _read_figures(config.report, files.model_id))


def _read_figures(report: str | None, model_id: str) -> Mapping[str, Any] | None:
    from model.reports.metrics_json import read_metrics

    if report is None:
        return None
    metrics = read_metrics(report)
    if metrics["model_id"] != model_id:
        raise ValueError(f"report must be of the model {model_id}, got one of {metrics['model_id']} ({report})")
    return metrics


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    for url in write_card(make_config(CardConfig, make_parser().parse_args(argv))):
        print(url)
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "card", CardConfig, "Write the card of a dataset (with Croissant metadata), a model or a report."
    )


if __name__ == "__main__":
    sys.exit(main())
