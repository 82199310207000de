"""Assign records to shards and write the shards of a dataset."""

__all__ = [
    "corpus_source",
    "dataset_samples",
    "dataset_source",
    "finish",
    "output_folder",
    "shard_writer",
    "sharding",
]
