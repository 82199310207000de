"""Convert a corpus in a pipeline: list facts, join them to records, choose and group records, then write a dataset."""

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines.steps.corpus_job import ConvertConfig, Job, adapt_policy, list_facts
from pipelines.steps.dataset_plan import DatasetPlan
from pipelines.transforms.group_scans import group_neighbours, move_groups
from pipelines.transforms.write_dataset import write_dataset
from shards import storage
from shards.curation import contradictions, subsets
from shards.curation.neighbours import NEIGHBOURS
from shards.format.manifest import DatasetManifest
from shards.writing import sharding
from shards.writing.shard_writer import DRAFTS_FOLDER


def add_conversion(
    pipeline: beam.Pipeline, job: Job, config: ConvertConfig, plan: DatasetPlan
) -> beam.PCollection[DatasetManifest]:
    """Add the conversion to a pipeline: list, join, then write as every dataset is written."""
    corpus, classes = job.corpus, job.classes
    policy = adapt_policy(corpus, config)
    subset = "all" if corpus.builds_subset else config.subset
    refs = (
        pipeline
        | "CreateSources" >> beam.Create(job.sources)
        | "SpreadSources" >> beam.Reshuffle()
        | "ListFacts" >> beam.FlatMap(list_facts, job, storage.join_url(plan.output, DRAFTS_FOLDER))
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
