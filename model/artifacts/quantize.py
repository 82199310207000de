"""Quantize an exported network to int8: its convolutions, each output channel with a scale of its own.

Weights are signed and have 7 bits, activations 8 bits without sign: processors without VNNI (AVX2) add up products of
8-bit weights in 16 bits, where they saturate.

Shapes: B batch  C colour  H W pixels
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.artifacts.onnx_network import INPUT_NAME

Convolution = tuple[str, int, int]
"""Name of the node, number of its groups, its place among all convolutions."""

EXACT: dict[str, Callable[[Convolution], bool]] = {
    "heads": lambda conv: _is_head(conv),
    "heads and depthwise": lambda conv: _is_head(conv) or conv[1] > 1,
    "heads, depthwise and first": lambda conv: _is_head(conv) or conv[1] > 1 or conv[2] == 0,
}
"""What keeps float32, from the least to the most: each step is slower than the one before it, and closer."""


def quantize_onnx(file: bytes, batches: Sequence[np.ndarray], exact: str) -> bytes:
    """Return an ONNX model with convolutions in int8.

    Args:
        file: the model in float32, batch norms folded.
        batches: normalised images (B, 3, H, W) that show the range of every activation.
        exact: a key of `EXACT`, what stays in float32.

    Raises:
        ValueError: packages are missing, or no convolution is left to quantize.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ValueError(
            f"quantization must have onnx and onnxruntime installed, got {error}; "
            f"install them with: pip install 'sixray-pipeline[export]'"
        ) from error

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch_BCHW = next(self._batches, None)
            return None if batch_BCHW is None else {INPUT_NAME: batch_BCHW}

    with tempfile.TemporaryDirectory() as folder:
        original, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("original", "prepared", "int8"))
        original.write_bytes(file)
        quant_pre_process(str(original), str(prepared), skip_symbolic_shape=True)
        convolutions = list_convolutions(onnx.load(prepared))
        kept = [conv[0] for conv in convolutions if EXACT[exact](conv)]
        if len(kept) == len(convolutions):
            raise ValueError(
                f"network must have convolutions beside {exact}, which stay in float32, got {len(kept)} of "
                f"{len(convolutions)} that are such"
            )
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return quantized.read_bytes()


def list_convolutions(proto: Any) -> list[Convolution]:
    """Return the convolutions of an ONNX model, in the order of computation."""
    nodes = [node for node in proto.graph.node if node.op_type == "Conv"]
    groups = [next((each.i for each in node.attribute if each.name == "group"), 1) for node in nodes]
    return [(node.name, num, place) for place, (node, num) in enumerate(zip(nodes, groups, strict=True))]


def _is_head(conv: Convolution) -> bool:
    return "/backbone/" not in conv[0]
