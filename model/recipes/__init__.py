"""Named training configurations, and the papers' tables to compare with."""

__all__ = ["chr", "paper_tables", "registry", "reproduction", "sxmnet"]
