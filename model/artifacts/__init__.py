"""Save, load, export and import models at rest."""

__all__ = ["export", "import_chr", "model_files", "onnx_network", "quantize", "saved_model"]
