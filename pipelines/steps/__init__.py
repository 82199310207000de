"""Steps that several jobs share."""

__all__ = ["dry_run", "score_run", "write_dataset"]
