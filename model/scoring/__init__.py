"""Score shards with a trained model: engines and the scorer."""

__all__ = [
    "batchnorm_folding",
    "boxes",
    "engine_selection",
    "engines",
    "heatmap_reader",
    "heatmaps",
    "scorer",
    "scoring_network",
]
