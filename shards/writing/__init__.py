"""Assign records to shards and write the shards of a dataset."""

__all__ = ["corpus_source", "dataset_source", "finish", "shard_writer", "sharding"]
