"""Read, decode, crop and batch scans for training and scoring."""

__all__ = ["batch", "crop_geometry", "decoder", "feeds", "prefetch", "sample_table", "sampling"]
