"""How do references become a dataset? The steps that `convert` and `reshard` share: deal, write, compare, finish."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, AsSingleton

from pipelines import log, options, progress
from shards import dataset as datasets
from shards import finish, leakage, plan, storage
from shards.dataset import DatasetManifest
from shards.leakage import Member
from shards.plan import Tallies
from shards.writer import Source, WrittenShard, write_shard

DEFAULT_SHARD_BYTES = 256 * 1024 * 1024


def write_dataset(
    refs: beam.PCollection[bytes],
    source: Source[Any],
    output: str,
    shard_bytes: int,
    options_record: dict[str, Any],
    *,
    label: str,
    kept_num_shards: Mapping[str, int] | None = None,
    findings: beam.PCollection[dict[str, Any]] | None = None,
    more_leaks: Sequence[beam.PCollection[Member]] = (),
) -> beam.PCollection[Any]:
    """Add to a pipeline what turns records into a dataset: count, deal, write, find duplicates, write the manifest.

    Args:
        refs: batches of records, pickled; all records of a key are in one batch.
        source: what makes samples of them.
        output: folder of the dataset, normalised.
        shard_bytes: image bytes in a shard on average.
        options_record: what the manifest says of how the dataset was made.
        label: of the progress and the counters: the command's name.
        kept_num_shards: the number of shards of splits that must not follow from their bytes.
        findings: one dict of what the manifest says beside; nothing is written before it is there.
        more_leaks: scans in several splits that are equal in other ways than to the byte.
    """
    if findings is not None:
        refs = refs | "AwaitFindings" >> beam.Map(lambda batch, _: batch, AsSingleton(findings))
    tallies = (
        refs | "TallySplits" >> beam.Map(plan.tally_splits) | "SumTallies" >> beam.CombineGlobally(plan.sum_tallies)
    )
    written = (
        refs
        | "AssignShards" >> beam.FlatMap(deal, AsSingleton(tallies), shard_bytes, kept_num_shards, label)
        # ((split, shard name), batch of records)
        | "GroupByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.ParDo(WriteShard(output, source, label))
        # WrittenShard
    )
    checksums = (
        written
        | "SpreadChecksums" >> beam.FlatMap(finish.spread_checksums, AsSingleton(tallies))
        # (range of checksums, batch of Checksum)
        | "GroupByChecksum" >> beam.GroupByKey()
    )
    duplicates = checksums | "FindDuplicates" >> beam.FlatMapTuple(lambda _, batches: finish.find_duplicates(batches))
    # (shard name, {key: first key with the same bytes})
    leaks = checksums | "FindLeaks" >> beam.FlatMapTuple(lambda _, batches: leakage.find_byte_equal(batches))
    leaks = (leaks, *more_leaks) | "FlattenLeaks" >> beam.Flatten()
    # Member
    beside = (AsSingleton(findings) if findings is not None else None, AsIter(leaks))
    infos = written | "KeyByShard" >> beam.Map(lambda shard: (shard.info.name, shard.info))
    return (
        {"info": infos, "duplicates": duplicates}
        | "GroupByShardName" >> beam.CoGroupByKey()
        | "FinishShard" >> beam.MapTuple(lambda _, found: finish.finish_shard(output, **found))
        # FinishedShard
        | "GatherShards" >> beam.combiners.ToList()
        | "WriteManifest"
        >> beam.Map(finish.write_manifest, AsSingleton(tallies), output, source.classes, options_record, *beside)
    )


def deal(
    batch: bytes, tallies: Tallies, shard_bytes: int, kept_num_shards: Mapping[str, int] | None, label: str
) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Yield the records of one batch by shard; from here on it is known how many there are."""
    progress.begin(label, "writing", sum(tally.num_records for tally in tallies.values()))
    return plan.assign_shards(batch, tallies, shard_bytes, kept_num_shards)


class WriteShard(beam.DoFn):
    """Writes one shard an element: a DoFn for its counters' sake."""

    def __init__(self, output: str, source: Source[Any], label: str) -> None:
        self.output = output
        self.source = source
        self.label = label
        self.converted_scans = Metrics.counter(label, "converted-scans")
        self.quarantined_scans = Metrics.counter(label, "quarantined-scans")
        self.written_bytes = Metrics.counter(label, "written-bytes")
        self.reused_shards = Metrics.counter(label, "reused-shards")

    def process(self, element: tuple[tuple[str, str], Iterable[bytes]]) -> Iterator[WrittenShard]:
        """Write the shard of these records, or find that it is there and right."""
        (split, name), batches = element
        refs = plan.unpack_records(batches)
        shard = write_shard(self.output, split, name, refs, self.source, num_readers_for(refs))
        self.converted_scans.inc(shard.info.num_scans)
        self.quarantined_scans.inc(shard.info.num_quarantined)
        self.reused_shards.inc(int(shard.was_reused))
        self.written_bytes.inc(0 if shard.was_reused else shard.info.tar_bytes)
        note_shard(self.label, self.output, shard)
        progress.advance(self.label, shard.info.num_scans + shard.info.num_quarantined, shard.info.tar_bytes)
        yield shard


def note_shard(job: str, output: str, shard: WrittenShard) -> None:
    """Write to the worker's log what became of one shard, and of each record that it refused."""
    if not log.is_noted():
        return
    info = shard.info
    if info.num_quarantined:
        refused = datasets.read_parquet(datasets.quarantine_url(output, info.name), ["key", "reason"])
        for row in refused.to_pylist():
            log.note("refused", job=job, shard=info.name, key=row["key"], reason=row["reason"])
    counts = {"num_scans": info.num_scans, "num_quarantined": info.num_quarantined, "tar_bytes": info.tar_bytes}
    log.note("reused" if shard.was_reused else "written", job=job, shard=info.name, **counts)


def report_ledger(manifest: DatasetManifest, max_quarantine_fraction: float) -> int:
    """Print where the records of each split went; return the exit code, which says whether too many were refused."""
    for split, counts in manifest.ledger.items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.quarantined_by_reason.items())
        line = f"{split}: {counts.listed} listed = {counts.converted} converted + {counts.quarantined} quarantined"
        print(f"{line} ({reasons})" if reasons else line)
    print(f"digest {manifest.digest}")
    quarantined, listed = (sum(getattr(c, n) for c in manifest.ledger.values()) for n in ("quarantined", "listed"))
    if quarantined <= max_quarantine_fraction * listed:
        return options.OK
    share = f"{quarantined} of {listed} records"
    print(f"findings: {share} are in quarantine, more than {max_quarantine_fraction:.2%}", file=sys.stderr)
    return options.FINDINGS


def num_readers_for(refs: Sequence[Any]) -> int:
    """Return how many threads read scans: a store answers after milliseconds, a disk as fast as the cores hash."""
    is_remote = bool(refs) and storage.local_path(refs[0].source_url) is None
    return 16 if is_remote else min(4, os.cpu_count() or 1)
