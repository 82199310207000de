"""Check datasets and predictions on disk against their manifests."""
