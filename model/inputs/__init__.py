"""Read, decode, crop and batch scans for training and scoring."""

__all__ = [
    "augmentation",
    "batch",
    "crop_geometry",
    "dali_graphs",
    "decoded_batch",
    "decoder",
    "feeds",
    "sample_table",
    "sampling",
]
