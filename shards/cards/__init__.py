"""Describe a dataset for those who publish or find it: a dataset card and Croissant metadata."""

__all__ = ["card_file", "croissant", "dataset_card"]
