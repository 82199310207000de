"""Check datasets and predictions on disk against their manifests."""

__all__ = ["dataset", "predictions", "quick", "shard"]
