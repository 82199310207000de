"""How does a corpus become a dataset? `sixray convert`.

Only references travel between steps, in batches: a scan's name, size and labels, never its bytes. One element of the
last steps is a shard. What is on disk follows from the corpus and the options alone: a retry is harmless, and a second
run redoes only what is missing or damaged.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton

from pipelines import options, progress
from pipelines.beam import make_beam_options, make_pipeline
from shards import corpus as corpora
from shards import dataset as datasets
from shards import finish, plan, records, storage
from shards.classes import ClassSet, load_class_set
from shards.corpus import Corpus, ListFile, find_corpus
from shards.dataset import DatasetManifest
from shards.records import Fact, ScanRef
from shards.scan_source import ScanSource
from shards.writer import WrittenShard, write_shard

DEFAULT_SHARD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertConfig:
    """What to convert, and how."""

    input: str
    output: str
    layout: str = "auto"
    subset: str = "all"
    shard_bytes: int = DEFAULT_SHARD_BYTES
    """Image bytes in a shard on average; a shard is the unit of shuffling, of scoring and of retry."""

    def __post_init__(self) -> None:
        if self.layout not in corpora.LAYOUTS:
            raise ValueError(f"layout must be one of {corpora.LAYOUTS}, got {self.layout!r}")
        if self.subset not in corpora.SUBSETS:
            raise ValueError(f"subset must be one of {corpora.SUBSETS}, got {self.subset!r}")
        if self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")


def convert(config: ConvertConfig, beam_options: Sequence[str] = ()) -> DatasetManifest:
    """Convert a corpus; return the manifest, which is written last.

    Raises:
        ValueError: the corpus is not what the layout says, or the output folder holds something else.
    """
    pipeline_options = make_beam_options(beam_options)
    corpus = find_corpus(config.input, config.layout, config.subset)
    finish.check_output(config.output)
    storage.sweep_temporaries(config.output)
    with progress.Progress("convert", unit="scans"), make_pipeline(pipeline_options) as pipeline:
        convert_corpus(pipeline, corpus, load_class_set("sixray"), config)
    return datasets.open_dataset(config.output).manifest


def convert_corpus(
    pipeline: beam.Pipeline, corpus: Corpus, classes: ClassSet, config: ConvertConfig
) -> beam.PCollection[DatasetManifest]:
    """Add the conversion to a pipeline: list, join, write, find duplicates, write the manifest."""
    output = storage.normalise_url(config.output)
    options_record = {
        "input": storage.as_uri(config.input),
        "layout": corpus.layout,
        "subset": config.subset,
        "shard_bytes": config.shard_bytes,
    }
    refs = (
        pipeline
        | "CreateSources" >> beam.Create([corpus.images_url, corpus.annotations_url, *corpus.lists])
        | "SpreadSources" >> beam.Reshuffle()
        | "ListFacts" >> beam.FlatMap(list_facts, corpus, classes.scored)
        # (range of hashes, batch of Fact)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "JoinFacts" >> beam.MapTuple(lambda _, batches: plan.join_batches(batches, corpus, config.subset))
        # batch of ScanRef
    )
    tallies = (
        refs | "TallySplits" >> beam.Map(plan.tally_splits) | "SumTallies" >> beam.CombineGlobally(plan.sum_tallies)
    )
    written = (
        refs
        | "AssignShards" >> beam.FlatMap(plan.assign_shards, AsSingleton(tallies), config.shard_bytes)
        # ((split, shard name), batch of ScanRef)
        | "GroupByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.ParDo(WriteShard(output, classes))
        # WrittenShard
    )
    duplicates = (
        written
        | "SpreadChecksums" >> beam.FlatMap(finish.spread_checksums, AsSingleton(tallies))
        # (range of checksums, batch of Checksum)
        | "GroupByChecksum" >> beam.GroupByKey()
        | "FindDuplicates" >> beam.FlatMapTuple(lambda _, batches: finish.find_duplicates(batches))
        # (shard name, {key: first key with the same bytes})
    )
    infos = written | "KeyByShard" >> beam.Map(lambda shard: (shard.info.name, shard.info))
    return (
        {"info": infos, "duplicates": duplicates}
        | "GroupByShardName" >> beam.CoGroupByKey()
        | "FinishShard" >> beam.MapTuple(lambda _, found: finish.finish_shard(output, **found))
        # FinishedShard
        | "GatherShards" >> beam.combiners.ToList()
        | "WriteManifest" >> beam.Map(finish.write_manifest, AsSingleton(tallies), output, classes, options_record)
    )


def list_facts(source: str | ListFile | None, corpus: Corpus, classes: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Yield the facts of one source in batches: the images, the annotations, or a list."""
    facts: Iterable[Fact] = ()
    if isinstance(source, ListFile):
        facts = records.list_rows(source, classes)
    elif source == corpus.images_url:
        facts = records.list_images(corpus)
    elif source is not None:
        facts = records.list_annotations(source)
    return plan.batch_facts(facts)


class WriteShard(beam.DoFn):
    """Writes one shard an element: a DoFn for its counters' sake."""

    def __init__(self, output: str, classes: ClassSet) -> None:
        self.output = output
        self.classes = classes
        self.converted_scans = Metrics.counter("convert", "converted-scans")
        self.quarantined_scans = Metrics.counter("convert", "quarantined-scans")
        self.written_bytes = Metrics.counter("convert", "written-bytes")
        self.reused_shards = Metrics.counter("convert", "reused-shards")

    def process(self, element: tuple[tuple[str, str], Iterable[bytes]]) -> Iterator[WrittenShard]:
        """Write the shard of these records, or find that it is there and right."""
        (split, name), batches = element
        refs = plan.unpack_records(batches)
        shard = write_shard(self.output, split, name, refs, ScanSource(self.classes), num_readers_for(refs))
        self.converted_scans.inc(shard.info.num_scans)
        self.quarantined_scans.inc(shard.info.num_quarantined)
        self.reused_shards.inc(int(shard.was_reused))
        self.written_bytes.inc(0 if shard.was_reused else shard.info.tar_bytes)
        progress.advance("convert", shard.info.num_scans + shard.info.num_quarantined, shard.info.tar_bytes)
        yield shard


def num_readers_for(refs: Sequence[ScanRef]) -> int:
    """Return how many threads read scans: a store answers after milliseconds, a disk as fast as the cores hash."""
    is_remote = bool(refs) and storage.local_path(refs[0].source_url) is None
    return 16 if is_remote else min(4, os.cpu_count() or 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return options.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = options.split_beam_options(argv)
    parser = options.make_parser("convert", "Turn a corpus of scans into a dataset of WebDataset shards.")
    parser.add_argument("--input", required=True, help="folder of the corpus: a path or an fsspec URL")
    parser.add_argument("--output", required=True, help="folder of the dataset; an unfinished one is resumed")
    parser.add_argument("--layout", choices=corpora.LAYOUTS, default="auto", help="how the corpus is laid out")
    parser.add_argument("--subset", choices=corpora.SUBSETS, default="all", help="which scans to take, by its lists")
    parser.add_argument("--shard-bytes", type=int, default=DEFAULT_SHARD_BYTES, help="image bytes in a shard")
    parser.add_argument(
        "--max-quarantine-fraction", type=options.fraction, default=0.01, help="exit 1 if more is refused than this"
    )
    flags = parser.parse_args(words)
    config = ConvertConfig(
        input=flags.input, output=flags.output, layout=flags.layout, subset=flags.subset, shard_bytes=flags.shard_bytes
    )
    manifest = convert(config, beam_options)
    print_ledger(manifest)
    quarantined, listed = (sum(getattr(c, n) for c in manifest.ledger.values()) for n in ("quarantined", "listed"))
    if quarantined > flags.max_quarantine_fraction * listed:
        share = f"{quarantined} of {listed} records"
        print(f"findings: {share} are in quarantine, more than {flags.max_quarantine_fraction:.2%}", file=sys.stderr)
        return options.FINDINGS
    return options.OK


def print_ledger(manifest: DatasetManifest) -> None:
    """Print where the records of each split went."""
    for split, counts in manifest.ledger.items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.quarantined_by_reason.items())
        line = f"{split}: {counts.listed} listed = {counts.converted} converted + {counts.quarantined} quarantined"
        print(f"{line} ({reasons})" if reasons else line)
    print(f"digest {manifest.digest}")


if __name__ == "__main__":
    sys.exit(main())
