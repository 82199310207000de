"""Turn a corpus into a dataset of WebDataset shards.

Only references travel between steps, in batches: a scan's name, size and labels, never its bytes. One element of the
last steps is a shard. What is on disk follows from the corpus and the options alone: a retry is harmless, and a second
run redoes only what is missing or damaged.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines.runtime import command_line, log, progress
from pipelines.runtime.flags import Flag, Fraction, make_config
from pipelines.runtime.process_pool import run_in_processes
from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.steps.corpus_job import (
    ConvertConfig,
    Job,
    adapt_policy,
    check_places,
    find_job,
    last_change_of,
    record_options,
)
from pipelines.steps.dry_run import DryRun, print_forecast
from pipelines.steps.group_scans import group_neighbours, move_groups
from pipelines.steps.write_dataset import DatasetPlan, report_ledger, write_dataset
from shards import storage
from shards.corpus.description import ListFile, Source
from shards.corpus.facts import Fact, ImageFact
from shards.corpus.layouts.registry import LAYOUTS
from shards.corpus.layouts.scan_names import ScanNames
from shards.corpus.metadata import MetadataFile, list_metadata
from shards.curation import contradictions, subsets
from shards.curation.findings import (
    Summary,
    describe_findings,
    describe_groups,
    describe_mixed_formats,
    find_shortcomings,
    summarise_dataset,
)
from shards.curation.neighbours import NEIGHBOURS
from shards.format import dataset as datasets
from shards.format.manifest import DatasetManifest
from shards.writing import sharding
from shards.writing.corpus_source import ScanSource
from shards.writing.output_folder import claim_output, find_finished
from shards.writing.shard_writer import DRAFTS_FOLDER

_IMAGES_A_REPORT = 1000


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
    make_beam_options(beam_options)
    return convert_job(find_job(config), config, beam_options)


def convert_job(job: Job, config: ConvertConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Convert the corpus that was found; see `convert_corpus`."""
    corpus = job.corpus
    pipeline_options = make_beam_options(beam_options)
    check_places(corpus, config.output)
    storage.sweep_temporaries(config.output)
    options = record_options(corpus, config)
    finished = find_finished(config.output, options, lambda: last_change_of(corpus, config), overwrite=config.overwrite)
    if finished is not None:
        log.status("convert: nothing to do, the dataset is finished and its corpus has not changed since")
        return finished
    with (
        claim_output(config.output, options),
        progress.Progress("convert", unit="scans"),
        make_pipeline(pipeline_options) as pipeline,
    ):
        add_conversion(pipeline, job, config)
    return datasets.open_dataset(config.output).manifest


def add_conversion(pipeline: beam.Pipeline, job: Job, config: ConvertConfig) -> beam.PCollection[DatasetManifest]:
    """Add the conversion to a pipeline: list, join, then write as every dataset is written."""
    corpus, classes = job.corpus, job.classes
    output = storage.normalise_url(config.output)
    policy = adapt_policy(corpus, config)
    subset = "all" if corpus.builds_subset else config.subset
    refs = (
        pipeline
        | "CreateSources" >> beam.Create(job.sources)
        | "SpreadSources" >> beam.Reshuffle()
        | "ListFacts" >> beam.FlatMap(list_facts, job, storage.join_url(output, DRAFTS_FOLDER))
        # (range of hashes, batch of Fact)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "JoinFacts"
        >> beam.MapTuple(lambda _, batches: sharding.join_batches(batches, corpus, subset, policy, classes))
        # batch of ScanRef
    )
    if corpus.builds_subset:
        refs = select_subset(refs, config.subset, config.seed, len(classes.scored))
    if config.group_by == NEIGHBOURS:
        refs = group_neighbours(refs)
    more_leaks = []
    if config.split_policy == "group" or config.near_duplicates:
        is_moved = config.split_policy == "group"
        refs, near = move_groups(refs, is_moved=is_moved, with_perceptual=config.near_duplicates)
        more_leaks.append(near)
    findings = (
        refs
        | "FindContradictions" >> beam.Map(contradictions.find_contradictions, classes)
        | "SumContradictions" >> beam.CombineGlobally(contradictions.sum_contradictions)
        | "CheckContradictions" >> beam.Map(contradictions.make_findings, policy, job.num_metadata_rows)
    )
    plan = DatasetPlan(
        label="convert",
        output=output,
        source=ScanSource(classes, policy, job.metadata_fields),
        shard_bytes=config.shard_bytes,
        options_record=record_options(corpus, config),
    )
    return write_dataset(refs, plan, findings=findings, more_leaks=more_leaks)


def select_subset(refs: beam.PCollection[bytes], subset: str, seed: int, num_classes: int) -> beam.PCollection[bytes]:
    """Add to a pipeline what keeps the records of a subset that no list names."""
    selection = (
        refs
        | "TakeCensus" >> beam.Map(subsets.census_of_records, seed)
        | "GatherCensuses" >> beam.combiners.ToList()
        | "ChooseSubset" >> beam.Map(subsets.choose_subset, subset, seed)
    )
    return refs | "SelectSubset" >> beam.Map(subsets.select_records, AsSingleton(selection), num_classes)


def list_facts(source: Source | ListFile | MetadataFile, job: Job, drafts_url: str) -> Iterator[tuple[int, bytes]]:
    """Yield the facts of one source in batches: images, annotations, a list, or metadata."""
    facts: Iterable[Fact]
    if isinstance(source, MetadataFile):
        names = ScanNames(job.corpus, job.classes)
        facts = list_metadata(source, job.metadata_fields, lambda name, is_key: names.find_key(name, is_key=is_key))
    else:
        facts = LAYOUTS[job.corpus.layout].list_facts(source, job.corpus, job.classes, drafts_url)
    return sharding.batch_facts(_report_images(facts))


def _report_images(facts: Iterable[Fact]) -> Iterator[Fact]:
    progress.begin("convert", "listing")
    num_images = num_bytes = 0
    for fact in facts:
        if isinstance(fact, ImageFact):
            num_images += 1
            num_bytes += fact.size_bytes
        if num_images == _IMAGES_A_REPORT:
            progress.advance("convert", num_images, num_bytes)
            num_images = num_bytes = 0
        yield fact
    progress.advance("convert", num_images, num_bytes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    make_beam_options(beam_options)
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
    """Print in which ways nobody can work with what was made; return whether nothing was lost."""
    shortcomings = list(find_shortcomings(summary, job.corpus, job.classes.scored))
    for shortcoming in sorted(shortcomings, key=lambda one: not one.is_loss):
        print(f"{'findings' if shortcoming.is_loss else 'note'}: {shortcoming.text}")
    return not any(shortcoming.is_loss for shortcoming in shortcomings)


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
