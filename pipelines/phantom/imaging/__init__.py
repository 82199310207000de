"""The X-ray physics of generated scans: materials, shapes and the scanner."""

__all__ = ["outlines", "scanner", "shapes"]
