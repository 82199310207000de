"""Build the networks: backbones, CHR, SXMNet, attention and level fusion."""
