"""Say which scans are rated: predictions joined with labels, and what became of every sample."""

__all__ = ["bags", "completeness", "scored_scans"]
