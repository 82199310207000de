"""Train networks: configuration, losses, checkpoints and the training loop."""

__all__ = ["config", "level_labels", "loss_base", "losses", "run_dir", "sxmnet_losses", "trainer"]
