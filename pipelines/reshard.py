"""Make a dataset of the samples of others: other shards, splits, classes or rows; several datasets into one.

As in `sixray convert` only references travel, what is on disk follows from the inputs and the options alone, and a
second run redoes only what is missing or damaged.
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
from pipelines.steps.reshard_job import ReshardConfig, make_selection, plan_dataset
from shards.format.dataset import open_dataset
from shards.format.manifest import DatasetManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(ReshardConfig):
    max_quarantine_fraction: Fraction = 0.01
    """Exit with 1 if more than this is refused."""


def reshard_datasets(config: ReshardConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Make a dataset of the samples of others; return the manifest, which is written last.

    Like `convert_corpus` it writes one shard after the other, unless within `process_pool.run_in_processes`.

    Raises:
        ValueError: an input is no finished dataset or lacks what is asked for, or the output is one of the inputs or
            holds something else.
    """
    command_line.check_beam_options(beam_options)
    inputs = tuple(open_dataset(url) for url in config.inputs)
    selection = make_selection(config, inputs)
    check_places(config.output, inputs)
    plan = plan_dataset(config, inputs, selection)
    newest_input = partial(last_change_of, inputs)
    if (finished := find_finished_dataset(plan, newest_input, overwrite=config.overwrite)) is not None:
        return finished
    process_pool.set_job_size(sum(source.manifest.num_scans for source in inputs))
    from pipelines.transforms.reshard import add_resharding
    from pipelines.transforms.write_dataset import run_job

    return run_job(plan, beam_options, partial(add_resharding, inputs=inputs, selection=selection, plan=plan))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    with process_pool.run_in_processes():
        manifest = reshard_datasets(flags, beam_options)
    return report_ledger(manifest, flags.max_quarantine_fraction)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    return command_line.make_parser(
        "reshard", _Flags, "Make a dataset of the samples of others, without decoding an image."
    )


if __name__ == "__main__":
    sys.exit(main())
