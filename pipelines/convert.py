"""Turn a corpus into a dataset of WebDataset shards.

Only references travel between steps, in batches: a scan's name, size and labels, never its bytes. One element of the
last steps is a shard. What is on disk follows from the corpus and the options alone: a retry is harmless, and a second
run redoes only what is missing or damaged.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines.runtime import command_line, log, progress
from pipelines.runtime.flags import NAMES, PAIRS, Flag, Fraction, make_config
from pipelines.runtime.process_pool import run_in_processes
from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.steps.dry_run import DryRun, print_forecast
from pipelines.steps.write_dataset import DEFAULT_SHARD_BYTES, DatasetPlan, report_ledger, write_dataset
from shards import storage
from shards.corpus import description as corpora
from shards.corpus.description import Corpus, ListFile, Source
from shards.corpus.facts import Fact, ImageFact
from shards.corpus.label_lists import ignored_columns
from shards.corpus.layouts.layout import Parts
from shards.corpus.layouts.registry import LAYOUT_CHOICES, LAYOUTS, choose_classes, find_corpus
from shards.corpus.metadata import MetadataFile, list_metadata, open_metadata
from shards.corpus.policy import Policy
from shards.curation import contradictions, near_duplicates, subsets
from shards.curation.findings import describe_findings, describe_mixed_formats
from shards.curation.groups import connect_pairs, find_moves, find_near_equal_leaks, move_records
from shards.curation.leakage import Member
from shards.curation.usefulness import Summary, find_shortcomings, summarise_dataset
from shards.format import dataset as datasets
from shards.format.classes import ClassSet
from shards.format.json_document import DamagedDocumentError
from shards.format.keys import escape_control_characters
from shards.format.manifest import MANIFEST_NAME, DatasetManifest
from shards.writing import sharding
from shards.writing.corpus_source import ScanSource
from shards.writing.existing_output import claim_output, find_finished
from shards.writing.output_folder import check_output
from shards.writing.shard_writer import DRAFTS_FOLDER

_IMAGES_A_REPORT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertConfig:
    """What to convert and how."""

    input: str
    """Folder of the corpus: a path or an fsspec URL."""
    output: str
    """Folder of the dataset; an unfinished one is resumed."""
    layout: Annotated[str, Flag(choices=LAYOUT_CHOICES)] = "auto"
    """Layout of the corpus; auto detects it and says what it found."""
    parts: Parts = field(default_factory=Parts)
    subset: Annotated[str, Flag(choices=corpora.SUBSETS)] = "all"
    """Scans to take: by the corpus' lists if it has them, else as the paper defines the subset."""
    seed: int = 0
    """Seed of the choice if a subset must be built."""
    split_policy: Literal["keep", "group"] = "keep"
    """group: equal scans, and those of one group, go to one split together, whatever the lists say."""
    near_duplicates: bool = False
    """Take scans that look the same, by a perceptual hash, as equal too; every image is decoded once more for it."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes instead of the layout's own: A,B,C; all are scored. auto: those that the annotations name."""
    class_map: Annotated[Mapping[str, str], PAIRS] = field(default_factory=dict)
    """More spellings of classes: caidao=Knife,pilers=Pliers."""
    policy: Annotated[Policy, Flag(without=["boxes_are_exhaustive"])] = field(default_factory=Policy)
    metadata: str = ""
    """Table of further columns, CSV or Parquet: a row a scan, which a column key, name or path names."""
    group_by: Annotated[str, Flag(metavar="COLUMN")] = ""
    """Column of the metadata that is equal for scans of one bag: their `group`, which goes to one split with
    --split-policy group."""
    overwrite: bool = False
    """Replace the output if it is the dataset of another corpus or of other options; else that is refused."""
    shard_bytes: int = DEFAULT_SHARD_BYTES
    """Image bytes in a shard on average; a shard is the unit of shuffling, of scoring and of retry."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUT_CHOICES:
            raise ValueError(f"layout must be one of {LAYOUT_CHOICES}, got {self.layout!r}")
        if self.subset not in corpora.SUBSETS:
            raise ValueError(f"subset must be one of {corpora.SUBSETS}, got {self.subset!r}")
        if self.group_by and not self.metadata:
            raise ValueError(f"group_by must come with metadata that have this column, got {self.group_by!r} alone")
        if self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(ConvertConfig):
    dry_run: Annotated[bool, Flag(action="store_true")] = False
    """Read all but the images, print what would become of the corpus, and write nothing."""
    max_quarantine_fraction: Fraction = 0.01
    """Exit with 1 if more than this is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What was found in the corpus of a config."""

    corpus: Corpus
    classes: ClassSet
    metadata: MetadataFile | None

    @property
    def sources(self) -> list[Source | ListFile | MetadataFile]:
        """All that facts are listed from."""
        return [*self.corpus.sources, *self.corpus.lists, *([self.metadata] if self.metadata else [])]

    @property
    def num_metadata_rows(self) -> int:
        """Rows of the table of metadata, if there is one."""
        return self.metadata.num_rows if self.metadata else 0


def convert_corpus(config: ConvertConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Convert a corpus; return the manifest, which is written last.

    On the embedded runner shards are written one after the other; within `process_pool.run_in_processes` by a process
    for each core, as the command does.

    Raises:
        ValueError: the corpus is not what the layout says, or the output folder holds something else.
    """
    make_beam_options(beam_options)
    return convert_job(find_job(config), config, beam_options)


def find_job(config: ConvertConfig) -> Job:
    """Return what is in the corpus of a config, and say it."""
    storage.check_url(config.input)
    check_is_no_dataset(config.input)
    corpus = find_corpus(config.input, config.layout, config.subset, config.parts, config.classes)
    metadata = open_metadata(config.metadata, config.group_by) if config.metadata else None
    classes = choose_classes(corpus, config.classes, config.class_map)
    if config.near_duplicates:
        near_duplicates.check_library()
    log.status(f"convert: {escape_control_characters(corpus.why)}")
    for item in corpus.lists:
        if item.has_labels and (ignored := ignored_columns(item.url, classes.scored, member=item.member)):
            names = escape_control_characters(", ".join(ignored))
            log.status(f"convert: columns of {item.uri} that are no classes are left out: {names}")
    return Job(corpus=corpus, classes=classes, metadata=metadata)


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


def last_change_of(corpus: Corpus, config: ConvertConfig) -> float | None:
    """Return when a file of a corpus or its metadata was last changed, added or removed; None for a store."""
    urls = {url for source in corpus.sources for url in source.parts or (source.url,)}
    found = [storage.last_change(url) for url in {*urls, *(item.url for item in corpus.lists)}]
    found += [storage.last_change(config.metadata)] if config.metadata else []
    return None if None in found else max(when for when in found if when is not None)


def check_is_no_dataset(url: str) -> None:
    """Raise ValueError if the input is a dataset: its tars would be taken for scans."""
    if storage.exists(manifest_url := storage.join_url(url, MANIFEST_NAME)):
        try:
            DatasetManifest.from_json(storage.read_bytes(manifest_url), manifest_url)
        except DamagedDocumentError:
            return
        raise ValueError(f"input must be a corpus, got a dataset ({url}); use `sixray reshard` to make others of it")


def check_places(corpus: Corpus, output: str) -> None:
    """Raise ValueError if the output holds something else, or lies in a folder that the corpus is listed from.

    The next run would list its own shards as scans.
    """
    root = f"{storage.normalise_url(output)}/"
    for source in corpus.sources:
        if source.form == "folder" and root.startswith(f"{storage.normalise_url(source.url)}/"):
            raise ValueError(f"output must be a folder apart from the scans, got {output} within {source.url}")
    check_output(output)


def adapt_policy(corpus: Corpus, config: ConvertConfig) -> Policy:
    """Return the policy of the config for this corpus."""
    policy = LAYOUTS[corpus.layout].adapt_policy(config.policy)
    return replace(policy, boxes_are_exhaustive=True) if corpus.builds_subset else policy


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
        | "ListFacts" >> beam.FlatMap(list_facts, corpus, classes, storage.join_url(output, DRAFTS_FOLDER))
        # (range of hashes, batch of Fact)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "JoinFacts"
        >> beam.MapTuple(lambda _, batches: sharding.join_batches(batches, corpus, subset, policy, classes))
        # batch of ScanRef
    )
    if corpus.builds_subset:
        refs = select_subset(refs, config.subset, config.seed, len(classes.scored))
    more_leaks = []
    if config.split_policy == "group" or config.near_duplicates:
        refs, near = move_groups(refs, config)
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
        source=ScanSource(classes, policy, job.metadata.fields if job.metadata else {}),
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


def move_groups(
    refs: beam.PCollection[bytes], config: ConvertConfig
) -> tuple[beam.PCollection[bytes], beam.PCollection[Member]]:
    """Add to a pipeline what finds equal scans: the records, moved if asked, and near-equal scans in several splits."""
    found = (
        refs
        | "FingerprintScans" >> beam.Map(near_duplicates.fingerprint_records, with_perceptual=config.near_duplicates)
        | "SpreadBands" >> beam.FlatMap(near_duplicates.spread_bands)
        # (range of what they may have in common, batch of Fingerprint)
        | "GroupByBand" >> beam.GroupByKey()
        | "FindPairs" >> beam.FlatMapTuple(lambda _, batches: near_duplicates.find_pairs(batches))
        | "GatherPairs" >> beam.combiners.ToList()
        # [Pair]
    )
    is_moved = config.split_policy == "group"
    moves = found | "FindMoves" >> beam.Map(lambda pairs: find_moves(connect_pairs(pairs)) if is_moved else {})
    near = found | "FindNearEqual" >> beam.FlatMap(find_near_equal_leaks, AsSingleton(moves))
    return refs | "MoveRecords" >> beam.Map(move_records, AsSingleton(moves)), near


def record_options(corpus: Corpus, config: ConvertConfig) -> dict[str, Any]:
    """Return what the manifest says of how the dataset was made."""
    return {
        "input": storage.as_uri(config.input),
        "layout": corpus.layout,
        "found": escape_control_characters(corpus.why),
        "subset": config.subset,
        "subset_from": "nothing" if config.subset == "all" else "paper" if corpus.builds_subset else "lists",
        "seed": config.seed,
        "split_policy": config.split_policy,
        "near_duplicates": config.near_duplicates,
        "shard_bytes": config.shard_bytes,
        "classes": list(config.classes),
        "class_map": dict(config.class_map),
        **({"metadata": storage.as_uri(config.metadata)} if config.metadata else {}),
        **({"group_by": config.group_by} if config.group_by else {}),
        **asdict(LAYOUTS[corpus.layout].adapt_policy(config.policy)),
    }


def list_facts(
    source: Source | ListFile | MetadataFile, corpus: Corpus, classes: ClassSet, drafts_url: str
) -> Iterator[tuple[int, bytes]]:
    """Yield the facts of one source in batches: images, annotations, or a list."""
    facts: Iterable[Fact]
    if isinstance(source, MetadataFile):
        facts = list_metadata(source, corpus)
    else:
        facts = LAYOUTS[corpus.layout].list_facts(source, corpus, classes, drafts_url)
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
    for line in (*describe_findings(json.loads(manifest.to_json())), *describe_mixed_formats(dataset)):
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
        list_facts=lambda source: list_facts(source, job.corpus, job.classes, ""),
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
