"""Verify a dataset in a pipeline: the bytes of each shard, keys and duplicates across shards, the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.runtime import log, progress
from pipelines.runtime.runners import make_beam_options, make_pipeline
from shards.format.dataset import Dataset
from shards.format.keys import escape_control_characters
from shards.format.manifest import ShardInfo
from shards.verify import dataset as checks
from shards.verify.dataset import CheckedShard
from shards.verify.shard import Damage


def run_verification(dataset: Dataset, report_url: str, beam_options: Sequence[str] = ()) -> None:
    """Verify a dataset and write what is wrong with it as JSON."""
    with (
        progress.Progress("verify", dataset.manifest.num_scans),
        make_pipeline(make_beam_options(beam_options)) as pipeline,
    ):
        add_verification(pipeline, dataset, report_url)


def add_verification(pipeline: beam.Pipeline, dataset: Dataset, report_url: str) -> beam.PCollection[None]:
    """Add the checks of all shards to a pipeline: bytes, then keys and duplicates across shards, then the ledger."""
    num_ranges = checks.choose_num_ranges(dataset.manifest.num_scans)
    checked = (
        pipeline
        | "CreateShards" >> beam.Create(dataset.manifest.shards)
        | "SpreadShards" >> beam.Reshuffle()
        | "VerifyShard" >> beam.ParDo(VerifyShard(dataset))
        # CheckedShard
    )
    duplicates = (
        checked
        | "BatchByChecksum" >> beam.FlatMap(checks.batch_rows_by_checksum, num_ranges)
        | "GroupByChecksum" >> beam.GroupByKey()
        | "VerifyDuplicates" >> beam.FlatMapTuple(lambda _, batches: checks.verify_duplicates(batches))
    )
    keys = (
        checked
        | "BatchByKey" >> beam.FlatMap(checks.batch_rows_by_key, num_ranges)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "VerifyKeys" >> beam.FlatMapTuple(lambda _, batches: checks.verify_keys(batches))
    )
    ledger = (
        checked
        | "DropRows" >> beam.Map(lambda shard: replace(shard, rows=(), damages=()))
        | "GatherCounts" >> beam.combiners.ToList()
        | "VerifyLedger" >> beam.FlatMap(lambda shards: checks.verify_ledger(dataset, shards))
    )
    return (
        (checked | "TakeDamages" >> beam.FlatMap(lambda shard: shard.damages), duplicates, keys, ledger)
        | "FlattenDamages" >> beam.Flatten()
        | "CountDamages" >> beam.Map(count_damage)
        # Damage
        | "GatherDamages" >> beam.combiners.ToList()
        | "WriteReport" >> beam.Map(checks.write_report, report_url)
    )


class VerifyShard(beam.DoFn):
    """Reads every byte of a shard; a DoFn for its counters' sake."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.verified_scans = Metrics.counter("verify", "verified-scans")
        self.read_bytes = Metrics.counter("verify", "read-bytes")

    def process(self, info: ShardInfo) -> Iterator[CheckedShard]:
        """Yield what was found in one shard, and report how far the job is."""
        checked = checks.verify_shard(self.dataset, info)
        self.verified_scans.inc(checked.num_rows)
        self.read_bytes.inc(checked.num_read_bytes)
        counts = {"num_scans": checked.num_rows, "num_findings": len(checked.damages)}
        log.event("verified", job="verify", shard=info.name, **counts, read_bytes=checked.num_read_bytes)
        progress.advance("verify", info.num_scans, checked.num_read_bytes)
        yield checked


def count_damage(damage: Damage) -> Damage:
    """Count a finding under its kind, and note it in the worker's log."""
    Metrics.counter("verify", f"{damage.what.replace('_', '-')}-findings").inc()
    log.event(
        "found",
        job="verify",
        file=escape_control_characters(damage.file),
        key=escape_control_characters(damage.key),
        reason=damage.what,
    )
    return damage
