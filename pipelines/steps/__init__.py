"""Steps that several jobs share."""

__all__ = [
    "corpus_job",
    "dataset_inputs",
    "dry_run",
    "group_scans",
    "list_alarms",
    "score_on_devices",
    "score_pipeline",
    "score_run",
    "score_shards",
    "train_progress",
    "write_dataset",
]
