"""Assign records to shards and write the shards of a dataset."""

__all__ = [
    "corpus_source",
    "dataset_samples",
    "dataset_source",
    "donors",
    "finish",
    "output_folder",
    "projected_samples",
    "shard_writer",
    "sharding",
    "source",
]
