"""Multiply items into other scans: threat image projection.

The output holds all samples of the input and, beside the scans of the chosen splits, their projections: the scan with
one object more, in half of them an item with its own box, in the others an object of a scan without an item, so that a
projection by itself says nothing about the label. Item, other object and scan are of one split. As in `sixray reshard`
only references travel, what is on disk follows from the inputs and the options alone, and a second run redoes only what
is missing or damaged.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pipelines.runtime import command_line, process_pool
from pipelines.runtime.flags import Fraction, make_config
from pipelines.steps.dataset_inputs import check_places, last_change_of
from pipelines.steps.dataset_plan import find_finished_dataset, report_ledger
from pipelines.steps.project_job import ProjectConfig, find_job, plan_dataset
from shards.format.dataset import open_dataset
from shards.format.manifest import DatasetManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(ProjectConfig):
    max_quarantine_fraction: Fraction = 0.01
    """Exit with 1 if more than this is refused."""


def project_items(config: ProjectConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Make a dataset of the samples of another and of their projections; return the manifest, which is written last.

    Raises:
        ValueError: an input is no finished dataset, has projections already or lacks what is asked for, or the output
            is one of the inputs or holds something else.
    """
    command_line.check_beam_options(beam_options)
    items, scans = open_dataset(config.items), open_dataset(config.input)
    job = find_job(config, items, scans)
    check_places(config.output, (items, scans))
    plan = plan_dataset(config, job)
    newest_input = partial(last_change_of, (items, scans))
    if (finished := find_finished_dataset(plan, newest_input, overwrite=config.overwrite)) is not None:
        return finished
    process_pool.set_job_size(scans.manifest.num_scans)
    from pipelines.transforms.project import add_projecting
    from pipelines.transforms.write_dataset import run_job

    return run_job(plan, beam_options, partial(add_projecting, job=job, plan=plan))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    with process_pool.run_in_processes():
        manifest = project_items(flags, beam_options)
    counts = {name: entry["count"] for name, entry in manifest.projections.items()}
    print("projected: " + (", ".join(f"{count} {name}" for name, count in counts.items()) or "none"))
    return report_ledger(manifest, flags.max_quarantine_fraction)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    return command_line.make_parser(
        "project", _Flags, "Multiply items into other scans of a dataset: threat image projection."
    )


if __name__ == "__main__":
    sys.exit(main())
