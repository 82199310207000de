"""Read and write predictions: parts, run.json, and which parts are still to be made."""

__all__ = ["parts", "plan", "run", "targets"]
