"""Recognise, check and transcode image files by their bytes."""

__all__ = ["decode", "inspect", "jpeg", "transcode"]
