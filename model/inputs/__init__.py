"""Read, decode, crop and batch scans for training and scoring."""

__all__ = ["crop_geometry", "decoder", "feeds", "prefetch", "sample_table"]
