"""Compute metrics from arrays of scores and labels."""

__all__ = [
    "arrays",
    "bags",
    "bootstrap",
    "calibration",
    "class_figures",
    "differences",
    "drift",
    "guarantees",
    "influence",
    "intervals",
    "joint_thresholds",
    "operating_points",
    "pointing",
    "ranking",
]
