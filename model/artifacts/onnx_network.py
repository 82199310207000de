"""Run an exported network in ONNX Runtime, as a module like any other.

Shapes: B batch  C colour  H W pixels
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.networks.config import ModelConfig
from model.networks.output import NetworkOutput

INPUT_NAME = "images"


class OnnxNetwork(nn.Module):
    """An ONNX model on the processor; thread-safe."""

    def __init__(self, file: bytes, config: ModelConfig, num_threads: int) -> None:
        """Open a model.

        Args:
            file: the ONNX model, with its weights.
            config: of the network that was exported.
            num_threads: that compute one call.

        Raises:
            ValueError: ONNX Runtime is not installed or cannot read the file.
        """
        super().__init__()
        self.file = file
        self._names = output_names(config)
        self._session: Any = open_session(file, num_threads)

    def run(self, images_BCHW: Tensor) -> list[np.ndarray]:
        """Return the outputs that `output_names` names, float32."""
        return list(self._session.run(self._names, {INPUT_NAME: images_BCHW.cpu().contiguous().numpy()}))

    def forward(self, images_BCHW: Tensor) -> NetworkOutput:
        """Return the output of normalised images (B, 3, H, W), float32."""
        arrays = zip(self._names, self.run(images_BCHW), strict=True)
        return NetworkOutput.from_named({name: torch.from_numpy(array) for name, array in arrays})


def open_session(file: bytes, num_threads: int) -> Any:
    """Return an ONNX Runtime session of a model on the CPU; ValueError if it cannot be had."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"ONNX Runtime must be installed to run an exported model, got {error}; "
            f"install it with: pip install 'sixray-pipeline[export]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Decoding shares the cores, and spinning threads would take them from it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class of their own
        raise ValueError(f"model must be one that ONNX Runtime reads, got {error}") from error


def output_names(config: ModelConfig) -> list[str]:
    """Return the names of the outputs, in order."""
    names = ["logits", "level_logits", *(f"heatmap_{level}" for level in range(1, config.num_levels + 1))]
    names += ["level_weights"] if config.fusion != "average" else []
    return names + (["attention"] if config.attention is not None else [])
