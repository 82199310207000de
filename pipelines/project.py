"""Multiply items into other scans: threat image projection.

The output holds all samples of the input and, beside the scans of the chosen splits, their projections: the scan with
one object more, in half of them an item with its own box, in the others an object of a scan without an item, so that a
projection by itself says nothing about the label. Item, other object and scan are of one split. As in `sixray reshard`
only references travel, what is on disk follows from the inputs and the options alone, and a second run redoes only what
is missing or damaged.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from pipelines.runtime import command_line, log, process_pool, progress
from pipelines.runtime.flags import NAMES, Flag, Fraction, make_config
from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.steps.dataset_inputs import (
    check_places,
    describe_inputs,
    last_change_of,
    list_corrected,
    recorded_shard_bytes,
)
from pipelines.steps.write_dataset import DEFAULT_SHARD_BYTES, DatasetPlan, DoTasks, report_ledger, write_dataset
from shards import storage
from shards.format import dataset as datasets
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import DatasetManifest, ShardInfo
from shards.writing import sharding
from shards.writing.dataset_samples import Selection, join_samples
from shards.writing.dataset_source import SampleSource
from shards.writing.donors import (
    MAX_DONORS,
    OTHER_OBJECT,
    Donor,
    DonorPool,
    complete_donor,
    find_twins,
    list_donors,
    make_pool,
)
from shards.writing.output_folder import claim_output, find_finished
from shards.writing.projected_samples import ProjectionSource, list_projections


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """Which items to project into which scans."""

    items: str
    """A dataset whose boxes hold the items; may be the input."""
    input: str
    """A dataset; into its scans items are projected."""
    output: str
    """Folder of the new dataset; an unfinished one is resumed."""
    per_scan: int = 1
    """Projections of each scan, each with one object."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes of the items; all scored ones of the input if not given."""
    splits: Annotated[tuple[str, ...], Flag("--split", **NAMES.settings)] = ("train",)
    """Splits to project in: scans and items of one are never of another."""
    seed: int = 0
    """Seed of the choice of items and of their size, angle and place."""
    shard_bytes: int | None = None
    """Image bytes in a shard on average; if not given as the input was made."""
    overwrite: bool = False
    """Replace the output if it is the dataset of other inputs or options; else that is refused."""

    def __post_init__(self) -> None:
        if self.per_scan < 1:
            raise ValueError(f"per_scan must be >= 1, got {self.per_scan}")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")
        if not self.splits:
            raise ValueError("splits must be at least one, got none")


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
    pipeline_options = make_beam_options(beam_options)
    items, scans = open_dataset(config.items), open_dataset(config.input)
    classes = _choose_classes(config, items, scans)
    check_places(config.output, (items, scans))
    storage.sweep_temporaries(config.output)
    options = _describe(config, items, scans, classes)
    changed = partial(last_change_of, (items, scans))
    finished = find_finished(config.output, options, changed, overwrite=config.overwrite)
    if finished is not None:
        log.status("project: nothing to do, the dataset is finished and its inputs have not changed since")
        return finished
    process_pool.set_job_size(scans.manifest.num_scans)
    with (
        claim_output(config.output, options),
        progress.Progress("project"),
        make_pipeline(pipeline_options) as pipeline,
    ):
        add_projecting(pipeline, items, scans, config)
    return datasets.open_dataset(config.output).manifest


def add_projecting(
    pipeline: beam.Pipeline, items: Dataset, scans: Dataset, config: ProjectConfig
) -> beam.PCollection[DatasetManifest]:
    """Add the job to a pipeline: choose donors, list scans with projections, then write as every dataset is written."""
    classes = _choose_classes(config, items, scans)
    wanted = [(items, info, classes) for info in items.manifest.shards if info.split in config.splits]
    wanted += [(scans, info, (OTHER_OBJECT,)) for info in scans.manifest.shards if info.split in config.splits]
    donors = (
        pipeline
        | "CreateDonorShards" >> beam.Create(wanted)
        | "SpreadDonorShards" >> beam.Reshuffle()
        | "ListDonors" >> beam.FlatMap(lambda shard, seed: list_donors(shard[0], shard[1], shard[2], seed), config.seed)
        # ((split, class), (rank, Donor))
        | "DrawDonors" >> beam.combiners.Top.SmallestPerKey(MAX_DONORS)
        | "DropRanks" >> beam.FlatMap(lambda drawn: [donor for _, donor in drawn[1]])
        | "SpreadDonors" >> beam.Reshuffle()
        | "CompleteDonors" >> beam.ParDo(DoTasks(completing_task, config.seed))
        | "DropUnusable" >> beam.Filter(lambda donor: donor is not None)
        # Donor, if its object can be cut out
    )
    shards = pipeline | "CreateShards" >> beam.Create(scans.manifest.shards) | "SpreadShards" >> beam.Reshuffle()
    twins = shards | "FindTwins" >> beam.FlatMap(lambda info, donors: find_twins(scans, info, donors), AsIter(donors))
    pool = (
        pipeline
        | "StartPool" >> beam.Create([config.splits])
        | "MakePool" >> beam.Map(lambda splits, *found: make_pool(splits, *found), AsIter(donors), AsIter(twins))
    )
    selection = Selection(
        classes=_class_set(scans),
        metadata=scans.manifest.metadata,
        added=("projected_from", *scans.manifest.added_columns),
        keeps_duplicates=True,
    )
    refs = (
        shards
        | "ListProjections" >> beam.FlatMap(list_batches, scans, selection, config, AsSingleton(pool))
        # (range of hashes, batch of SampleRef)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "JoinSamples" >> beam.MapTuple(lambda _, batches: join_samples(batches))
        # batch of SampleRef
    )
    source = SampleSource((scans,), selection.classes, selection.metadata, selection.added)
    plan = DatasetPlan(
        label="project",
        output=storage.normalise_url(config.output),
        source=ProjectionSource(source),
        shard_bytes=_choose_shard_bytes(config, scans),
        options_record=_describe(config, items, scans, classes),
        corrected_rows=list_corrected((scans,)),
    )
    found = {name: getattr(scans.manifest, name) for name in ("contradictions", "repairs")}
    findings = pipeline | "CreateFindings" >> beam.Create([found])
    return write_dataset(refs, plan, findings=findings)


def completing_task(donor: Donor, seed: int) -> tuple[Any, ...]:
    """Cut out the object of a donor, to see whether it can be."""
    return complete_donor, donor, seed


def list_batches(
    info: ShardInfo, scans: Dataset, selection: Selection, config: ProjectConfig, pool: DonorPool
) -> Iterator[tuple[int, bytes]]:
    """Yield the records of one shard and their projections in batches by the range of their key's hash."""
    progress.begin("project", "listing")
    progress.advance("project", info.num_scans, info.image_bytes)
    listed = list_projections(scans, info, selection, pool, per_scan=config.per_scan, seed=config.seed)
    return sharding.batch_by_key(listed)


def _choose_classes(config: ProjectConfig, items: Dataset, scans: Dataset) -> tuple[str, ...]:
    for dataset in (items, scans):
        if dataset.manifest.is_projected:
            raise ValueError(
                f"dataset must be of scans as a scanner took them, got one with projections ({dataset.url}); "
                f"take the one that it was made of"
            )
        if absent := sorted(set(config.splits) - set(dataset.manifest.splits)):
            known = list(dataset.manifest.splits)
            raise ValueError(f"split must be one of {known}, got {', '.join(absent)} ({dataset.url})")
    known = [name for name in scans.manifest.classes if name in items.manifest.classes]
    if absent := sorted(set(config.classes) - set(known)):
        raise ValueError(f"classes must be of those of both datasets, {known}, got {', '.join(absent)}")
    names = config.classes or tuple(name for name in known if name in scans.manifest.scored_classes)
    if not names:
        raise ValueError(f"items and input must have a class in common, got {items.manifest.classes} and {known}")
    return tuple(sorted(names))


def _class_set(dataset: Dataset) -> ClassSet:
    scored = dataset.manifest.scored_classes
    return ClassSet(scored, tuple(name for name in dataset.manifest.classes if name not in scored))


def _choose_shard_bytes(config: ProjectConfig, scans: Dataset) -> int:
    return config.shard_bytes or recorded_shard_bytes([scans]) or DEFAULT_SHARD_BYTES


def _describe(config: ProjectConfig, items: Dataset, scans: Dataset, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "command": "project",
        "inputs": describe_inputs([scans, items]),
        "shard_bytes": _choose_shard_bytes(config, scans),
        "per_scan": config.per_scan,
        "classes": list(classes),
        "splits": sorted(config.splits),
        "seed": config.seed,
    }


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
