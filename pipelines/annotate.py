"""Send scans to an annotation tool, and turn what comes back into corrections."""

import argparse
import datetime
import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, make_config
from shards import storage
from shards.annotation.export import Exported, ExportPlan, export_scans
from shards.annotation.formats import WRITERS
from shards.annotation.returned import Comparison, compare_returned
from shards.annotation.uncertain import choose_uncertain
from shards.curation.corrections import write_corrections
from shards.format.dataset import open_dataset
from shards.format.parquet import read_parquet
from shards.predictions.run import open_predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotateConfig:
    """What to send, or what came back."""

    action: Annotated[str, Flag("action", choices=("export", "import"))]
    """export: write scans for a tool; import: write corrections of what it gave back."""
    file: Annotated[str | None, Flag("file", nargs="?")] = None
    """What to import: a file of COCO, CVAT or Label Studio, or a folder of VOC or YOLO."""
    data: str
    """The dataset."""
    output: str
    """export: a new folder; import: the file of corrections, for `sixray reshard --corrections`."""
    format: Annotated[str, Flag(choices=tuple(WRITERS))] = "coco"
    """Format of an export; an import finds it out."""
    predictions: str | None = None
    """PREDICTIONS/<model-id>: boxes, else peaks, with a score of 0.5 and more are suggested."""
    select: Annotated[str, Flag(metavar="SQL")] = ""
    """SQL condition over the columns of samples; all scans if not given."""
    uncertain: Annotated[int | None, Flag(metavar="N")] = None
    """Take the N scans whose predictions are least certain, class by class, one a bag."""
    review: str | None = None
    """REVIEW_DIR of `sixray review`: take the scans that it ranked."""
    pictures: bool = True
    """Write the pictures; else the export names where they came from."""
    author: str = ""
    """Who changed what is imported; the user's name if not given."""

    def __post_init__(self) -> None:
        if (self.action == "import") != (self.file is not None):
            given = "none" if self.file is None else repr(self.file)
            raise ValueError(f"a file must be given to import and for nothing else, got {given} to {self.action}")
        if self.uncertain is not None and self.uncertain < 1:
            raise ValueError(f"uncertain must be >= 1, got {self.uncertain}")
        if self.uncertain is not None and self.predictions is None:
            raise ValueError("uncertain must go with the predictions that are uncertain, got none; give --predictions")
        if self.review is not None and self.uncertain is not None:
            raise ValueError("scans must come from --review or from --uncertain, got both")


def export_annotations(config: AnnotateConfig) -> Exported:
    """Write scans of a dataset for an annotation tool; ValueError if there is nothing to write, or no place for it."""
    dataset = open_dataset(config.data)
    predictions = open_predictions(config.predictions) if config.predictions else None
    keys = None
    if config.uncertain is not None:
        assert predictions is not None
        keys = choose_uncertain(dataset, predictions, config.uncertain)
    if config.review is not None:
        keys = read_parquet(storage.join_url(config.review, "review.parquet"), ["key"])["key"].to_pylist()
    plan = ExportPlan(
        dataset=dataset,
        output=storage.normalise_url(config.output),
        format_name=config.format,
        condition=config.select,
        keys=keys,
        predictions=predictions,
        has_pictures=config.pictures,
    )
    return export_scans(plan)


def import_annotations(config: AnnotateConfig) -> Comparison:
    """Write the corrections in what an annotation tool gave back; ValueError names what does not fit."""
    assert config.file is not None
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    author = config.author or getpass.getuser()
    found = compare_returned(storage.normalise_url(config.file), open_dataset(config.data), author=author, time=now)
    write_corrections(config.output, found.corrections)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(AnnotateConfig, make_parser().parse_args(argv))
    if config.action == "import":
        found = import_annotations(config)
        print(f"{found.num_scans} scans came back, {len(found.corrections)} corrected: {config.output}")
        return command_line.OK
    exported = export_annotations(config)
    suggested = f", {exported.num_suggestions} suggestions" if config.predictions else ""
    print(f"{exported.num_scans} scans with {exported.num_boxes} boxes{suggested}: {exported.url}")
    for key, problem in list(exported.unreadable.items())[:20]:
        log.status(f"left out: {key}: {problem}", level="warning")
    if exported.unreadable:
        log.status(f"findings: {len(exported.unreadable)} scans cannot be read; run `sixray verify`", level="warning")
        return command_line.FINDINGS
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "annotate",
        AnnotateConfig,
        "Write scans for an annotation tool, and write corrections of what comes back.",
    )


if __name__ == "__main__":
    sys.exit(main())
