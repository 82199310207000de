"""Read, decode, crop and batch scans for training and scoring."""

__all__ = ["batch", "crop_geometry", "decoder", "feeds", "sample_table", "sampling"]
