"""Recognise, check and transcode image files by their bytes."""
