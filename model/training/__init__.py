"""Train networks: configuration, losses, checkpoints and the training loop."""
