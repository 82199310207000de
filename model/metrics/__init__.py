"""Compute metrics from arrays of scores and labels."""

__all__ = [
    "arrays",
    "bags",
    "calibration",
    "class_figures",
    "detection",
    "drift",
    "guarantees",
    "joint_thresholds",
    "operating_points",
    "pointing",
    "ranking",
    "uncertainty",
]
