"""Read and write the files of a dataset: tars, indexes, tables, manifest."""

__all__ = ["classes", "dataset", "schemas", "shard_reader", "tar"]
