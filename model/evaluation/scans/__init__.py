"""Say which scans are rated: predictions joined with labels, and what became of every sample."""

__all__ = ["completeness", "scored_scans"]
