"""Recognise, check and transcode image files by their bytes."""

__all__ = ["cutouts", "decode", "inspect", "jpeg", "png", "projection", "transcode"]
