"""Read and write the files of a dataset: tars, indexes, tables, manifest."""
