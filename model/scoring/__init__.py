"""Score shards with a trained model: engines and the scorer."""

__all__ = ["engine_selection", "engines", "heatmaps", "scorer", "scoring_network"]
