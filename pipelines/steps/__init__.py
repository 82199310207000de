"""What several jobs share, and what is known of a job before it runs: none of it loads Beam."""

__all__ = [
    "corpus_job",
    "dataset_inputs",
    "dataset_plan",
    "dry_run",
    "list_alarms",
    "project_job",
    "reshard_job",
    "score_on_devices",
    "score_run",
    "score_shards",
    "train_progress",
]
