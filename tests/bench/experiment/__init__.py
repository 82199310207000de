"""Train CHR's variants on composed scans at several ratios of negatives to positives: see `experiment.md`."""
