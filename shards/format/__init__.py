"""Read and write the files of a dataset: tars, indexes, tables, manifest."""

__all__ = [
    "classes",
    "dali_index",
    "dataset",
    "json_document",
    "keys",
    "manifest",
    "parquet",
    "sample_json",
    "schemas",
    "shard_reader",
    "tar",
    "ustar",
    "webdataset_reader",
]
