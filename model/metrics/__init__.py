"""Compute metrics from arrays of scores and labels."""

__all__ = ["arrays", "bootstrap", "calibration", "influence", "intervals", "operating_points", "pointing", "ranking"]
