"""Compute metrics from arrays of scores and labels."""

__all__ = ["bootstrap", "calibration", "operating_points", "pointing", "ranking"]
