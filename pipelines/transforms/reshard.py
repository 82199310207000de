"""Reshard datasets in a pipeline: list the selected rows, join keys, then write a dataset.

Image bytes are copied by offset and never decoded.
"""

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines.runtime import progress
from pipelines.steps.dataset_plan import DatasetPlan
from pipelines.transforms.write_dataset import write_dataset
from shards.curation.subsets import choose_subset
from shards.format.dataset import Dataset
from shards.format.manifest import DatasetManifest, ShardInfo
from shards.writing import sharding
from shards.writing.dataset_samples import Selection, census_of_samples, join_samples, list_samples, select_samples

BUILT_SUBSETS = ("10", "100", "1000")


def add_resharding(
    pipeline: beam.Pipeline, inputs: tuple[Dataset, ...], selection: Selection, plan: DatasetPlan
) -> beam.PCollection[DatasetManifest]:
    """Add the resharding to a pipeline."""
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
        refs = select_subset(refs, selection)
    return write_dataset(refs, plan)


def select_subset(refs: beam.PCollection[bytes], selection: Selection) -> beam.PCollection[bytes]:
    """Add to a pipeline what keeps the samples of SIXray10, 100 or 1000, built as the paper defines them."""
    scored = selection.classes.scored
    chosen = (
        refs
        | "TakeCensus" >> beam.Map(census_of_samples, scored, selection.seed)
        | "GatherCensuses" >> beam.combiners.ToList()
        | "ChooseSubset" >> beam.Map(choose_subset, selection.subset, selection.seed)
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
