"""Check datasets and predictions on disk against their manifests."""

__all__ = ["damage", "dataset", "predictions", "quick", "shard"]
