"""Steps that several jobs share."""

__all__ = ["score_run", "select_subset", "write_dataset"]
