"""Draw what generated scans show: prohibited items, clutter and bags."""

__all__ = ["bags", "clutter", "threats"]
