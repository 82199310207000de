"""Compute metrics from arrays of scores and labels."""

__all__ = ["bootstrap", "calibration", "intervals", "operating_points", "pointing", "ranking"]
