"""Read, decode, crop and batch scans for training and scoring."""
