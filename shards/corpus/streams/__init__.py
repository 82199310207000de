"""Read archives that can only be read from their start, and spool their images to files."""

__all__ = ["spool", "tars"]
