"""Steps that several jobs share."""

__all__ = ["corpus_job", "dataset_inputs", "dry_run", "score_run", "write_dataset"]
