"""Project items into scans in a pipeline: choose donors, list scans with their projections, then write a dataset."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from pipelines.runtime import progress
from pipelines.steps.dataset_plan import DatasetPlan
from pipelines.steps.project_job import ProjectJob
from pipelines.transforms.write_dataset import DoTasks, write_dataset
from shards.format.manifest import DatasetManifest, ShardInfo
from shards.writing import sharding
from shards.writing.dataset_samples import join_samples
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
from shards.writing.projected_samples import list_projections


def add_projecting(pipeline: beam.Pipeline, job: ProjectJob, plan: DatasetPlan) -> beam.PCollection[DatasetManifest]:
    """Add the projection to a pipeline."""
    scans = job.scans
    wanted = [(job.items, info, job.classes) for info in job.items.manifest.shards if info.split in job.splits]
    wanted += [(scans, info, (OTHER_OBJECT,)) for info in scans.manifest.shards if info.split in job.splits]
    donors = (
        pipeline
        | "CreateDonorShards" >> beam.Create(wanted)
        | "SpreadDonorShards" >> beam.Reshuffle()
        | "ListDonors" >> beam.FlatMap(lambda shard, seed: list_donors(shard[0], shard[1], shard[2], seed), job.seed)
        # ((split, class), (rank, Donor))
        | "DrawDonors" >> beam.combiners.Top.SmallestPerKey(MAX_DONORS)
        | "DropRanks" >> beam.FlatMap(lambda drawn: [donor for _, donor in drawn[1]])
        | "SpreadDonors" >> beam.Reshuffle()
        | "CompleteDonors" >> beam.ParDo(DoTasks(completing_task, job.seed))
        | "DropUnusable" >> beam.Filter(lambda donor: donor is not None)
        # Donor, if its object can be cut out
    )
    shards = pipeline | "CreateShards" >> beam.Create(scans.manifest.shards) | "SpreadShards" >> beam.Reshuffle()
    twins = shards | "FindTwins" >> beam.FlatMap(lambda info, donors: find_twins(scans, info, donors), AsIter(donors))
    pool = (
        pipeline
        | "StartPool" >> beam.Create([job.splits])
        | "MakePool" >> beam.Map(lambda splits, *found: make_pool(splits, *found), AsIter(donors), AsIter(twins))
    )
    refs = (
        shards
        | "ListProjections" >> beam.FlatMap(list_batches, job, AsSingleton(pool))
        # (range of hashes, batch of SampleRef)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "JoinSamples" >> beam.MapTuple(lambda _, batches: join_samples(batches))
        # batch of SampleRef
    )
    return write_dataset(refs, plan)


def completing_task(donor: Donor, seed: int) -> tuple[Any, ...]:
    """Cut out the object of a donor, to see whether it can be."""
    return complete_donor, donor, seed


def list_batches(info: ShardInfo, job: ProjectJob, pool: DonorPool) -> Iterator[tuple[int, bytes]]:
    """Yield the records of one shard and their projections in batches by the range of their key's hash."""
    progress.begin("project", "listing")
    progress.advance("project", info.num_scans, info.image_bytes)
    listed = list_projections(job.scans, info, job.selection, pool, per_scan=job.per_scan, seed=job.seed)
    return sharding.batch_by_key(listed)
