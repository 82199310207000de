"""Read and write the files of a dataset: tars, indexes, tables, manifest."""

__all__ = [
    "classes",
    "dataset",
    "json_document",
    "keys",
    "manifest",
    "parquet",
    "sample_json",
    "shard_reader",
    "tar",
    "webdataset_reader",
]
