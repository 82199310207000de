"""Write scans for annotation tools, and turn what comes back into corrections."""

__all__ = ["export", "formats", "returned", "uncertain"]
