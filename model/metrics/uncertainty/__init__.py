"""Say how far figures can be trusted: influences, intervals, bootstrap, differences of two models."""

__all__ = ["bootstrap", "differences", "influence", "intervals"]
