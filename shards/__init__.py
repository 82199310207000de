"""What is on disk? Formats at rest: samples, tars, indexes, manifests, predictions. No Beam, no PyTorch."""
