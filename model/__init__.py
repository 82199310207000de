"""What does it say? DALI input, networks, losses, training, the scorer, metrics. No Beam."""
