"""Build the networks: backbones, CHR, SXMNet, attention and level fusion."""

__all__ = ["backbones", "bf16", "config", "output", "peaks", "registry", "stages", "sxmnet", "weights"]
