"""Describe a model or a report in a card, for those who publish or choose it."""

__all__ = ["model_card", "report_card"]
