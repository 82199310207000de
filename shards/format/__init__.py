"""Read and write the files of a dataset: tars, indexes, tables, manifest."""

__all__ = [
    "attestation",
    "classes",
    "dataset",
    "json_document",
    "json_lists",
    "keys",
    "manifest",
    "merkle",
    "parquet",
    "shard_reader",
    "tar",
    "webdataset_reader",
]
