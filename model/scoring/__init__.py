"""Score shards with a trained model: engines and the scorer."""
