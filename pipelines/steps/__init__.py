"""Steps that several jobs share."""

__all__ = ["score_run", "write_dataset"]
