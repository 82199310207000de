"""Say which scans, labels, boxes and splits of two datasets came, went or changed."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag, make_config
from shards.curation.differences import Differences, compare_datasets
from shards.format.dataset import open_dataset

TITLES = {
    "came": "came",
    "went": "went",
    "renamed": "renamed",
    "image": "other image",
    "split": "other split",
    "label": "other label",
    "boxes": "other boxes",
    "group": "other group",
    "metadata": "other metadata",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffConfig:
    """What to compare."""

    first: Annotated[str, Flag("first")]
    """A dataset."""
    second: Annotated[str, Flag("second")]
    """Another dataset, such as a later version of it."""
    json: bool = False
    """Print one JSON document with every difference."""
    list: bool = False
    """Print a line for every difference, separated by tabs: kind, key, class or column, before, after."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the datasets hold the same scans, 1 if not."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(DiffConfig, make_parser().parse_args(argv))
    with compare_datasets(open_dataset(config.first), open_dataset(config.second)) as found:
        summary = found.summarise()
        if config.json:
            _print_json(summary, found)
        elif config.list:
            for change in found:
                print("\t".join(value or "" for value in change))
        else:
            for line in describe(summary):
                print(line)
    return command_line.OK if summary["is_same"] else command_line.FINDINGS


def describe(summary: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that the command prints of a summary."""
    sides = (f"{of['num_scans']:,} scans, digest {of['digest'][:12]} ({of['url']})" for of in summary["datasets"])
    yield from (f"{side}: {text}" for side, text in zip("AB", sides, strict=True))
    for what in ("classes", "metadata"):
        for verb, names in summary[what].items():
            if names:
                yield f"{what} {verb}: {', '.join(names)}"
    for kind, count in summary["counts"].items():
        if count:
            keys = dict.fromkeys(change["key"] for change in summary["examples"][kind])
            yield f"{TITLES[kind]}: {count:,} ({', '.join(keys)}{', …' if count > len(keys) else ''})"
        for row in summary["values"] if kind in ("split", "label") else ():
            if (row["what"] == "split") == (kind == "split"):
                yield f"  {row['what']} {row['before']} -> {row['after']}: {row['num_scans']:,}"
    yield f"same: {summary['num_same']:,}"


def _print_json(summary: dict[str, Any], changes: Differences) -> None:
    """Print the summary with every change, one at a time: they may be millions."""
    text = json.dumps({**summary, "changes": []}, indent=1)
    print(text.removesuffix("[]\n}"), end="[")
    for number, change in enumerate(changes):
        print(",\n " if number else "\n ", json.dumps(change._asdict()), sep="", end="")
    print("\n]}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "diff", DiffConfig, "Say which scans, labels, boxes and splits of two datasets came, went or changed."
    )


if __name__ == "__main__":
    sys.exit(main())
