"""Turn a corpus into a dataset of WebDataset shards.

Only references travel between steps, in batches: a scan's name, size and labels, never its bytes. One element of the
last steps is a shard. What is on disk follows from the corpus and the options alone: a retry is harmless, and a second
run redoes only what is missing or damaged.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag, Fraction, make_config
from pipelines.runtime.process_pool import run_in_processes
from pipelines.steps.corpus_job import (
    ConvertConfig,
    Job,
    adapt_policy,
    check_places,
    find_job,
    last_change_of,
    list_facts,
    plan_dataset,
)
from pipelines.steps.dataset_plan import find_finished_dataset, report_ledger
from pipelines.steps.dry_run import DryRun, print_forecast
from shards.curation.findings import (
    Summary,
    describe_findings,
    describe_groups,
    describe_mixed_formats,
    find_shortcomings,
    summarise_dataset,
)
from shards.format import dataset as datasets
from shards.format.manifest import DatasetManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(ConvertConfig):
    dry_run: Annotated[bool, Flag(action="store_true")] = False
    """Read all but the images, print what would become of the corpus, and write nothing."""
    max_quarantine_fraction: Fraction = 0.01
    """Exit with 1 if more than this is refused."""


def convert_corpus(config: ConvertConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Convert a corpus; return the manifest, which is written last.

    On the embedded runner shards are written one after the other; within `process_pool.run_in_processes` by a process
    for each core, as the command does.

    Raises:
        ValueError: the corpus is not what the layout says, or the output folder holds something else.
    """
    command_line.check_beam_options(beam_options)
    return convert_job(find_job(config), config, beam_options)


def convert_job(job: Job, config: ConvertConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Convert the corpus that was found; see `convert_corpus`."""
    check_places(job.corpus, config.output)
    plan = plan_dataset(job, config)
    newest_input = partial(last_change_of, job.corpus, config)
    if (finished := find_finished_dataset(plan, newest_input, overwrite=config.overwrite)) is not None:
        return finished
    from pipelines.transforms.convert import add_conversion
    from pipelines.transforms.write_dataset import run_job

    return run_job(plan, beam_options, partial(add_conversion, job=job, config=config, plan=plan))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    command_line.check_beam_options(beam_options)
    job = find_job(flags)
    if flags.dry_run:
        return _run_dry(job, flags)
    with run_in_processes():
        manifest = convert_job(job, flags, beam_options)
    dataset = datasets.open_dataset(flags.output)
    is_useful = _print_shortcomings(summarise_dataset(dataset), job)
    code = report_ledger(manifest, flags.max_quarantine_fraction)
    document = json.loads(manifest.to_json())
    for line in (*describe_findings(document), *describe_groups(dataset), *describe_mixed_formats(dataset)):
        print(line)
    return code if is_useful else command_line.FINDINGS


def _print_shortcomings(summary: Summary, job: Job) -> bool:
    """Print what may keep the dataset from being of use; return whether there is nothing."""
    shortcomings = list(find_shortcomings(summary, job.corpus, job.classes.scored))
    for shortcoming in shortcomings:
        print(f"findings: {shortcoming}")
    return not shortcomings


def _run_dry(job: Job, flags: _Flags) -> int:
    dry_run = DryRun(
        corpus=job.corpus,
        sources=job.sources,
        list_facts=lambda source: list_facts(source, job, ""),
        classes=job.classes,
        policy=adapt_policy(job.corpus, flags),
        subset=flags.subset,
        seed=flags.seed,
        num_metadata_rows=job.num_metadata_rows,
    )
    found, findings = dry_run.read()
    is_useful = _print_shortcomings(found.summary, job)
    print_forecast(found, findings, job.classes.all)
    is_within = found.summary.refused.total() <= flags.max_quarantine_fraction * found.summary.num_listed
    return command_line.OK if is_useful and is_within else command_line.FINDINGS


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    return command_line.make_parser("convert", _Flags, "Turn a corpus of scans into a dataset of WebDataset shards.")


if __name__ == "__main__":
    sys.exit(main())
