"""Generate scans as a dual-energy scanner would show them: bags, items, imaging."""

__all__ = ["corpus_plan", "scene"]
