"""Write the references of samples as a dataset: the transforms that `convert`, `reshard` and `project` share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, AsSingleton
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.runtime import log, process_pool, progress
from pipelines.runtime.process_pool import Tasks
from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.steps.dataset_plan import DatasetPlan
from shards.curation import leakage
from shards.curation.leakage import Member
from shards.format.dataset import open_dataset
from shards.format.manifest import DatasetManifest, quarantine_url
from shards.format.parquet import read_parquet
from shards.writing import finish, sharding
from shards.writing.finish import find_duplicates, find_equal, spread_checksums
from shards.writing.output_folder import claim_output
from shards.writing.shard_writer import WrittenShard, write_batches
from shards.writing.sharding import Tallies


def run_job(
    plan: DatasetPlan, beam_options: Sequence[str], add_transforms: Callable[[beam.Pipeline], Any]
) -> DatasetManifest:
    """Run a pipeline that writes a dataset; return the manifest, which is written last."""
    with (
        claim_output(plan.output, plan.options_record),
        progress.Progress(plan.label),
        make_pipeline(make_beam_options(beam_options)) as pipeline,
    ):
        add_transforms(pipeline)
    return open_dataset(plan.output).manifest


def write_dataset(
    refs: beam.PCollection[bytes],
    plan: DatasetPlan,
    *,
    findings: beam.PCollection[dict[str, Any]] | None = None,
    more_leaks: Sequence[beam.PCollection[Member]] = (),
) -> beam.PCollection[Any]:
    """Add to a pipeline what turns records into a dataset: count, assign, write, find duplicates, write the manifest.

    Args:
        refs: batches of records, pickled; all records of a key are in one batch.
        plan: what is written where.
        findings: one dict for the manifest in place of the plan's; nothing is written before it is there.
        more_leaks: scans in several splits that are equal, though not to the byte.
    """
    if findings is not None:
        refs = refs | "AwaitFindings" >> beam.Map(lambda batch, _: batch, AsSingleton(findings))
    tallies = (
        refs
        | "TallySplits" >> beam.Map(sharding.tally_splits)
        | "SumTallies" >> beam.CombineGlobally(sharding.sum_tallies)
    )
    written = (
        refs
        | "AssignShards" >> beam.FlatMap(assign_shards, AsSingleton(tallies), plan)
        # ((split, shard name), batch of records)
        | "GroupByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.ParDo(DoTasks(writing_task, plan))
        | "ReportShard" >> beam.Map(report_shard, plan)
        # WrittenShard
    )
    equal = (
        written
        | "SpreadChecksums" >> beam.FlatMap(spread_checksums, AsSingleton(tallies))
        # (range of checksums, batch of (sha256, key, shard name))
        | "GroupByChecksum" >> beam.GroupByKey()
        | "FindEqual" >> beam.MapTuple(lambda _, batches: find_equal(batches))
        # groups of equal scans: [[(key, shard name)]]
    )
    duplicates = equal | "FindDuplicates" >> beam.FlatMap(find_duplicates)
    # (shard name, {key: first key with the same bytes})
    leaks = equal | "FindLeaks" >> beam.FlatMap(leakage.find_byte_equal)
    leaks = (leaks, *more_leaks) | "FlattenLeaks" >> beam.Flatten()
    # Member
    infos = written | "KeyByShard" >> beam.Map(lambda shard: (shard.info.name, shard.info))
    return (
        {"info": infos, "duplicates": duplicates}
        | "GroupByShardName" >> beam.CoGroupByKey()
        | "FinishShard" >> beam.ParDo(DoTasks(finishing_task, plan))
        # FinishedShard
        | "GatherShards" >> beam.combiners.ToList()
        | "WriteManifest"
        >> beam.Map(
            # A lambda, since Beam takes no class for a Source, which is a protocol.
            lambda finished, tallies, findings, leaks: finish.write_manifest(
                finished, tallies, plan.output, plan.source, plan.options_record, findings, leaks, plan.corrected_rows
            ),
            AsSingleton(tallies),
            AsSingleton(findings) if findings is not None else plan.findings,
            AsIter(leaks),
        )
    )


def assign_shards(batch: bytes, tallies: Tallies, plan: DatasetPlan) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Yield the records of one batch by shard; from here on it is known how many there are."""
    num_records = sum(tally.num_records for tally in tallies.values())
    progress.begin(plan.label, "writing", num_records)
    process_pool.set_job_size(num_records)
    return sharding.assign_shards(batch, tallies, plan.shard_bytes, plan.kept_num_shards)


class DoTasks(beam.DoFn):
    """Do a task for each element, in other processes if there are any; results come in order."""

    def __init__(self, make_task: Callable[[Any, Any], tuple[Any, ...]], settings: Any) -> None:
        """Take what makes of an element, and of settings, the function to call and its arguments."""
        self.make_task = make_task
        self.settings = settings

    def start_bundle(self) -> None:
        """Begin with no task under way."""
        self._tasks: Tasks[Any] = Tasks()

    def process(self, element: Any) -> Iterator[Any]:
        """Start a task; yield the results of those that were started earlier and are done."""
        yield from self._tasks.call(*self.make_task(element, self.settings))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yield the results of the tasks that are still under way."""
        yield from map(GlobalWindows.windowed_value, self._tasks.finish())


def writing_task(element: tuple[tuple[str, str], Iterable[bytes]], plan: DatasetPlan) -> tuple[Any, ...]:
    """Write a shard unless a correct one exists."""
    (split, name), batches = element
    return write_batches, plan.output, split, name, list(batches), plan.source


def finishing_task(element: tuple[str, dict[str, Iterable[Any]]], plan: DatasetPlan) -> tuple[Any, ...]:
    """Write the rows of a shard, with its duplicates, under their final name."""
    _, found = element
    return finish.finish_shard, plan.output, list(found["info"]), list(found["duplicates"]), plan.source


def report_shard(shard: WrittenShard, plan: DatasetPlan) -> WrittenShard:
    """Count the records of a shard, and log to the worker's log its outcome and each record that it refused."""
    info = shard.info
    for name, count in (
        ("converted-scans", info.num_scans),
        ("quarantined-scans", info.num_quarantined),
        ("reused-shards", int(shard.was_reused)),
        ("written-bytes", 0 if shard.was_reused else info.tar_bytes),
    ):
        Metrics.counter(plan.label, name).inc(count)
    progress.advance(plan.label, info.num_scans + info.num_quarantined, info.tar_bytes)
    if log.logs_events():
        if info.num_quarantined:
            refused = read_parquet(quarantine_url(plan.output, info.name), ["key", "reason"])
            for row in refused.to_pylist():
                log.event("refused", job=plan.label, shard=info.name, key=row["key"], reason=row["reason"])
        counts = {"num_scans": info.num_scans, "num_quarantined": info.num_quarantined, "tar_bytes": info.tar_bytes}
        log.event("reused" if shard.was_reused else "written", job=plan.label, shard=info.name, **counts)
    return shard
