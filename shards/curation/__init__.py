"""Find contradictions, duplicates and leakage in a corpus; select subsets and rows."""

__all__ = [
    "bags",
    "contradictions",
    "corrections",
    "differences",
    "findings",
    "folds",
    "forecast",
    "groups",
    "leakage",
    "near_duplicates",
    "neighbours",
    "sql_filter",
    "subsets",
]
