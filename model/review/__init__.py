"""Find the labels of a dataset that are likely wrong."""

__all__ = ["evidence", "folder", "page", "ranking"]
