"""Watch predictions night after night: drift tests, estimates without labels, their record and page."""

__all__ = ["label_free", "observations", "page", "record", "thresholds"]
