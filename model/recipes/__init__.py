"""Named training configurations, and the papers' tables to compare with."""

__all__ = ["chr", "paper_tables", "recipe_files", "registry", "reproduction", "sxmnet"]
