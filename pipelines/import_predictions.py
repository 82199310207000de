"""Turn scores or detections of another program into predictions of a dataset."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, Fraction, make_config
from shards import storage
from shards.format.dataset import open_dataset
from shards.predictions.coco_detections import read_coco_detections
from shards.predictions.import_scores import UNMATCHED_FILE, Imported, write_imported
from shards.predictions.score_table import OUT_OF_RANGE, read_scores

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPredictionsConfig:
    """Which scores to import, and of which dataset they are."""

    file: Annotated[str, Flag("file")]
    """Table with a column `key` and a column a class, or detections in COCO's format of results."""
    data: str
    """The dataset whose samples the keys name."""
    output: str
    """Folder of predictions, which go to <model-name> below it."""
    format: Literal["csv", "parquet", "coco-detections"]
    """Format of the file."""
    model_name: str
    """Name of the model that made the scores; alarms, thresholds and drift compare by it."""
    scores_are: Literal["scores", "logits"] = "scores"
    """What the columns hold: scores in [0, 1], or logits."""
    images: Annotated[str | None, Flag(metavar="FILE")] = None
    """COCO file with the images and categories whose ids the detections have; else ids are keys and class names."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.model_name):
            raise ValueError(
                f"model name must be letters, digits, '.', '_' and '-', at most 100, got {self.model_name!r}"
            )
        if self.format == "coco-detections" and self.scores_are != "scores":
            raise ValueError(f"scores_are must be scores for coco-detections, got {self.scores_are!r}")
        if self.images is not None and self.format != "coco-detections":
            raise ValueError(f"images must go with coco-detections, got {self.images!r} with {self.format!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(ImportPredictionsConfig):
    max_quarantine_fraction: Fraction = 0.01
    """Exit with 1 if more than this is refused."""


def import_predictions(config: ImportPredictionsConfig) -> Imported:
    """Write PREDICTIONS/<model-name>; `run.json` comes last.

    Raises:
        ValueError: the file is no table of scores, no key is a sample of the dataset, or the folder holds other
            predictions.
    """
    if not storage.exists(config.file):
        raise ValueError(f"file must be a table of scores or detections, got none ({config.file})")
    dataset = open_dataset(config.data)
    classes = dataset.manifest.scored_classes
    if config.format == "coco-detections":
        table = read_coco_detections(config.file, dataset, config.images)
    else:
        table = read_scores(config.file, config.format, classes, config.scores_are == "logits")
    what = "category" if config.format == "coco-detections" else "column"
    if table.absent_classes:
        log.status(f"no {what} for {', '.join(table.absent_classes)}: their scores stay unknown", level="warning")
    if table.unused_columns:
        log.status(f"not read, of no class of the dataset: {what} {', '.join(table.unused_columns[:20])}")
    origin = {
        "url": storage.normalise_url(config.file),
        "sha256": storage.sha256_of(config.file),
        "format": config.format,
        "scores_are": config.scores_are,
    }
    if config.images is not None:
        origin |= {"images_sha256": storage.sha256_of(config.images)}
    url = storage.join_url(config.output, config.model_name)
    return write_imported(table, dataset, url, config.model_name, origin)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    flags = make_config(_Flags, make_parser().parse_args(argv))
    found = import_predictions(flags)
    counts, left = found.run["counts"], found.run["unscored"]
    print(f"{counts['num_scored']:,} of {counts['num_scans']:,} scans have a score: {found.predictions_url}")
    refused = counts["num_quarantined"] + found.num_unmatched
    if refused:
        reasons = [f"{num} {reason}" for reason, num in counts["quarantined_by_reason"].items()]
        if found.num_unmatched:
            reasons.append(f"{found.num_unmatched} rows of no scan in {UNMATCHED_FILE}")
        log.status(f"in quarantine: {', '.join(reasons)}", level="warning")
    if flags.scores_are == "scores" and OUT_OF_RANGE in counts["quarantined_by_reason"]:
        log.status("scores must be in [0, 1]; if the file holds logits, say --scores-are logits", level="warning")
    if left["num_scans"]:
        log.status(f"{left['num_scans']:,} scans are in splits that no row names, and are left out")
    if refused > flags.max_quarantine_fraction * (counts["num_scans"] + found.num_unmatched):
        log.status(f"findings: more than {flags.max_quarantine_fraction:.2%} are in quarantine", level="warning")
        return command_line.FINDINGS
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "import-predictions",
        _Flags,
        "Turn scores or detections of another program into predictions that verify, evaluate and alarms take.",
    )


if __name__ == "__main__":
    sys.exit(main())
