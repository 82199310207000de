"""Recognise, check and transcode image files by their bytes."""

__all__ = ["errors", "inspect", "jpeg", "transcode"]
