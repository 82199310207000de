"""Make a dataset of the samples of others: other shards, splits, classes or rows; several datasets into one.

As in `sixray convert` only references travel, what is on disk follows from the inputs and the options alone, and a
second run redoes only what is missing or damaged. Image bytes are copied by offset and never decoded.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines.runtime import command_line, log, progress
from pipelines.runtime.flags import NAMES, Flag, Fraction, make_config
from pipelines.runtime.process_pool import run_in_processes
from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.steps.dataset_inputs import (
    check_places,
    describe_inputs,
    last_change_of,
    list_corrected,
    recorded_shard_bytes,
)
from pipelines.steps.write_dataset import DEFAULT_SHARD_BYTES, DatasetPlan, report_ledger, write_dataset
from shards import storage
from shards.curation.contradictions import add_contradictions
from shards.curation.corrections import find_changes, read_corrections
from shards.curation.sql_filter import check_condition
from shards.curation.subsets import choose_subset
from shards.format import dataset as datasets
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import SHARD_NAME, DatasetManifest, ShardInfo
from shards.format.parquet import samples_schema
from shards.writing import sharding
from shards.writing.dataset_samples import (
    Selection,
    census_of_samples,
    join_metadata,
    join_samples,
    list_samples,
    select_samples,
)
from shards.writing.dataset_source import SampleSource
from shards.writing.output_folder import claim_output, find_finished

BUILT_SUBSETS = ("10", "100", "1000")
Subset = Literal["all", "positives", "10", "100", "1000"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshardConfig:
    """Which samples to take from where, and how to lay them out."""

    inputs: Annotated[tuple[str, ...], Flag("--input")]
    """A dataset; repeatable, several become one."""
    output: str
    """Folder of the new dataset; an unfinished one is resumed."""
    shard_bytes: int | None = None
    """Image bytes in a shard on average; if not given as the inputs were made, and splits that are taken whole from one
    input keep their number of shards."""
    subset: Subset = "all"
    """Samples to take, by their labels."""
    seed: int = 0
    """Seed of the samples that a subset of 10, 100 or 1000 draws."""
    splits: Annotated[tuple[str, ...], Flag("--split", **NAMES.settings)] = ()
    """Splits to take; all if not given."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes to keep in labels and boxes; all if not given, then all inputs must have the same."""
    where: Annotated[tuple[str, ...], Flag(metavar="SQL")] = ()
    """SQL condition over the columns of samples, e.g. "labels.Gun = 1 and metadata.site = 'A'"; of several all must be
    true."""
    corrections: str | None = None
    """File of corrected labels and boxes, as `sixray annotate import` writes it."""
    overwrite: bool = False
    """Replace the output if it is the dataset of other inputs or options; else that is refused."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("inputs must be at least one dataset, got none")
        if self.subset not in get_args(Subset):
            raise ValueError(f"subset must be one of {get_args(Subset)}, got {self.subset!r}")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be named once each, got {self.classes}")


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
    pipeline_options = make_beam_options(beam_options)
    inputs = tuple(open_dataset(url) for url in config.inputs)
    selection = make_selection(config, inputs)
    check_places(config.output, inputs)
    storage.sweep_temporaries(config.output)
    options = _describe(config, inputs, selection, choose_shard_bytes(config, inputs))
    finished = find_finished(config.output, options, lambda: last_change_of(inputs), overwrite=config.overwrite)
    if finished is not None:
        log.status("reshard: nothing to do, the dataset is finished and its inputs have not changed since")
        return finished
    with (
        claim_output(config.output, options),
        progress.Progress("reshard"),
        make_pipeline(pipeline_options) as pipeline,
    ):
        add_resharding(pipeline, inputs, selection, config)
    return datasets.open_dataset(config.output).manifest


def choose_shard_bytes(config: ReshardConfig, inputs: Sequence[Dataset]) -> int:
    """Return the bytes in a shard that the config asks for, else those of the inputs."""
    return config.shard_bytes or recorded_shard_bytes(inputs) or DEFAULT_SHARD_BYTES


def add_resharding(
    pipeline: beam.Pipeline, inputs: tuple[Dataset, ...], selection: Selection, config: ReshardConfig
) -> beam.PCollection[DatasetManifest]:
    """Add the job to a pipeline: list the selected rows, join keys, then write as every dataset is written."""
    shard_bytes = choose_shard_bytes(config, inputs)
    refs = (
        pipeline
        | "CreateShards" >> beam.Create([(at, info) for at, item in enumerate(inputs) for info in item.manifest.shards])
        | "SpreadShards" >> beam.Reshuffle()
        | "ListSamples" >> beam.FlatMap(list_batches, inputs, selection)
        # (range of hashes, batch of SampleRef)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "JoinSamples" >> beam.MapTuple(lambda _, batches: join_samples(batches))
        # batch of SampleRef
    )
    if selection.subset in BUILT_SUBSETS:
        refs = select_subset(refs, selection, config.seed)
    # What was found when the inputs were converted still holds where every record of theirs comes along.
    is_whole = selection.takes_all and not selection.splits and not config.classes
    found = {
        name: add_contradictions(getattr(item.manifest, name) for item in inputs) if is_whole else {}
        for name in ("contradictions", "repairs", "skipped")
    }
    plan = DatasetPlan(
        label="reshard",
        output=storage.normalise_url(config.output),
        source=SampleSource(
            inputs, selection.classes, selection.metadata, selection.added, bool(selection.corrections)
        ),
        shard_bytes=shard_bytes,
        options_record=_describe(config, inputs, selection, shard_bytes),
        kept_num_shards=keep_num_shards(inputs, selection, shard_bytes),
        corrected_rows=[*list_corrected(inputs), *selection.changes],
    )
    findings = pipeline | "CreateFindings" >> beam.Create([found])
    return write_dataset(refs, plan, findings=findings)


def select_subset(refs: beam.PCollection[bytes], selection: Selection, seed: int) -> beam.PCollection[bytes]:
    """Add to a pipeline what keeps the samples of SIXray10, 100 or 1000, built as the paper defines them."""
    scored = selection.classes.scored
    chosen = (
        refs
        | "TakeCensus" >> beam.Map(census_of_samples, scored, seed)
        | "GatherCensuses" >> beam.combiners.ToList()
        | "ChooseSubset" >> beam.Map(choose_subset, selection.subset, seed)
    )
    return refs | "SelectSubset" >> beam.Map(select_samples, AsSingleton(chosen), scored)


def list_batches(
    shard: tuple[int, ShardInfo], inputs: Sequence[Dataset], selection: Selection
) -> Iterator[tuple[int, bytes]]:
    """Yield the records of one shard, (index of its dataset, shard), in batches by the range of their key's hash."""
    input_index, info = shard
    progress.begin("reshard", "listing")
    progress.advance("reshard", info.num_scans, info.image_bytes)
    return sharding.batch_by_key(list_samples(inputs[input_index], input_index, info, selection))


def make_selection(config: ReshardConfig, inputs: Sequence[Dataset]) -> Selection:
    """Return the selection of the config, checked against the inputs.

    Raises:
        ValueError: no input has a split or class that is asked for, inputs differ in classes and none are named, or
            the condition is none.
    """
    known = sorted({split for dataset in inputs for split in dataset.manifest.splits})
    if absent := sorted(set(config.splits) - set(known)):
        raise ValueError(f"split must be one of {known}, got {', '.join(absent)} ({', '.join(config.inputs)})")
    corrections = read_corrections(config.corrections) if config.corrections else []
    changes = find_changes(inputs, corrections, config.corrections or "")
    added = {name for dataset in inputs for name in dataset.manifest.added_columns}
    added |= {"corrected_by"} if changes else set()
    for condition in config.where:
        for dataset in inputs:
            manifest = dataset.manifest
            schema = samples_schema(manifest.classes, manifest.metadata, added=added)
            check_condition(condition, schema)
    return Selection(
        classes=_choose_classes(config.classes, inputs),
        metadata=join_metadata(dataset.manifest.metadata for dataset in inputs),
        added=tuple(name for name in ("projected_from", "corrected_by") if name in added),
        corrections={of.key: of for of in corrections} if changes else {},
        changes=tuple(changes),
        splits=tuple(sorted(config.splits)),
        condition=_join_conditions(config.where),
        subset=config.subset,
    )


def _join_conditions(conditions: Sequence[str]) -> str:
    # On a line of its own, so that a comment at the end of a condition ends with it.
    return conditions[0] if len(conditions) == 1 else " and ".join(f"({condition}\n)" for condition in conditions)


def _choose_classes(names: tuple[str, ...], inputs: Sequence[Dataset]) -> ClassSet:
    manifests = [dataset.manifest for dataset in inputs]
    if not names:
        if len({(manifest.classes, manifest.scored_classes) for manifest in manifests}) > 1:
            found = " and ".join(sorted({", ".join(manifest.classes) for manifest in manifests}))
            raise ValueError(f"inputs must have the same classes, got {found}; say by --classes which to keep")
        names = manifests[0].classes
    known = {name for manifest in manifests for name in manifest.classes}
    if absent := sorted(set(names) - known):
        raise ValueError(f"classes must be of {sorted(known)}, got {', '.join(absent)}")
    unscored = {name for manifest in manifests for name in manifest.classes if name not in manifest.scored_classes}
    return ClassSet(
        tuple(name for name in names if name not in unscored), tuple(name for name in names if name in unscored)
    )


def keep_num_shards(inputs: Sequence[Dataset], selection: Selection, shard_bytes: int) -> dict[str, int]:
    """Return the number of shards of each split if one dataset is resharded with its own settings.

    It would not follow from the bytes: `convert` counted those of scans that it then refused.
    """
    if len(inputs) > 1 or not selection.takes_all or shard_bytes != recorded_shard_bytes(inputs):
        return {}
    return {
        found["split"]: int(found["num"])
        for info in inputs[0].manifest.shards
        if (found := SHARD_NAME.fullmatch(info.name))
    }


def _describe(
    config: ReshardConfig, inputs: Sequence[Dataset], selection: Selection, shard_bytes: int
) -> dict[str, Any]:
    return {
        "command": "reshard",
        "inputs": describe_inputs(inputs),
        "shard_bytes": shard_bytes,
        "subset": config.subset,
        "seed": config.seed,
        "splits": list(selection.splits),
        "classes": list(config.classes),
        "where": _join_conditions(config.where),
        **({"corrections": storage.sha256_of(config.corrections)} if config.corrections else {}),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    with run_in_processes():
        manifest = reshard_datasets(flags, beam_options)
    return report_ledger(manifest, flags.max_quarantine_fraction)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    return command_line.make_parser(
        "reshard", _Flags, "Make a dataset of the samples of others, without decoding an image."
    )


if __name__ == "__main__":
    sys.exit(main())
