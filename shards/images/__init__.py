"""Recognise, check and transcode image files by their bytes."""

__all__ = ["decode", "errors", "inspect", "jpeg", "transcode"]
