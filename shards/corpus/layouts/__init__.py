"""Recognize the layout of a corpus and describe what is particular to each: a module a layout."""

__all__ = ["layout", "registry", "scan_names"]
