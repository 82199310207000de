"""Evaluate predictions against the labels of a dataset."""

__all__ = [
    "alarm_plans",
    "alarms",
    "bag_alarms",
    "breakdowns",
    "comparison",
    "detection",
    "evaluate",
    "pointing",
    "scan_table",
    "scans",
    "subsets",
    "top_k",
    "uncertainty",
]
