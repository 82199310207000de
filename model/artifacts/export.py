"""Export a model as ONNX or as a torch.export program, and check the export against the network.

Both take `images` (B, 3, H, W), float32, RGB squashed to the model's square and normalised by its mean and std, for
any B. Outputs, in this order: `logits` (B, K) as predictions record them, `level_logits` (B, L, K), level 1 (finest)
first, and `heatmap_1` to `heatmap_L`, (B, K, h, w), whose peaks locate items. Networks with a selection network add
`level_weights` (B, L), those with an attention head its mask `attention` (B, 1, h, w).

Shapes: B batch  K classes  L levels  C colour  H W pixels of an image  h w cells of a heatmap
"""

import io
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from model.artifacts.onnx_network import INPUT_NAME, OnnxNetwork, open_session, output_names
from model.artifacts.saved_model import LoadedModel
from model.networks.config import WHITE, ModelConfig
from model.networks.output import NetworkOutput
from shards.host import count_cores, installed_versions

TOLERANCE = 1e-4
"""Largest difference of any output of an export from the network in eager float32, in logits; relative to the largest
value of an output that exceeds 1."""
FILE_NAMES = {"onnx": "model.onnx", "torch-export": "model.pt2"}
"""Format -> file."""

_TRIM = f"cut off first the rows and columns at the edges in which every value is {WHITE} or more"

Run = Callable[[Tensor], Sequence[np.ndarray]]


def export_model(model: LoadedModel, format_name: str) -> tuple[bytes, dict[str, Any]]:
    """Return the file of an export and the document that describes it, after checking it against the network.

    Args:
        model: what to export.
        format_name: a key of `FILE_NAMES`.

    Raises:
        ValueError: the format is unknown, packages are missing, or the export differs by more than `TOLERANCE`.
    """
    if format_name not in FILE_NAMES:
        raise ValueError(f"format must be one of {', '.join(FILE_NAMES)}, got {format_name!r}")
    network, config = model.network, model.config
    if format_name == "onnx":
        if isinstance(network, OnnxNetwork):
            import onnx

            file = _serialize(onnx.load_from_string(network.file), _metadata(model))
        else:
            file = export_onnx(network, config, _metadata(model))
        session = open_session(file, count_cores())
        difference = check_export(network, config, lambda images: session.run(None, {INPUT_NAME: images.numpy()}))
    else:
        if isinstance(network, OnnxNetwork):
            raise ValueError(f"format must be onnx for a quantized model, got {format_name!r} ({model.model_id})")
        file = export_program(network, config)
        program = torch.export.load(io.BytesIO(file)).module()
        difference = check_export(network, config, lambda images: [one.detach().numpy() for one in program(images)])
    return file, _describe(model, format_name, difference)


def export_onnx(network: nn.Module, config: ModelConfig, metadata: dict[str, str] | None = None) -> bytes:
    """Return a network as an ONNX model for any batch size, with its weights.

    Raises:
        ValueError: packages are missing, or the network has an operation that ONNX lacks.
    """
    try:
        import onnxscript  # noqa: F401 (what torch.onnx exports with)
    except ImportError as error:
        raise ValueError(
            f"export to ONNX must have onnx and onnxscript installed, got {error}; "
            f"install them with: pip install 'sixray-pipeline[export]'"
        ) from error
    names = output_names(config)
    try:
        exported = torch.onnx.export(
            _trace(network, config), dynamo=True, input_names=[INPUT_NAME], output_names=names, verbose=False
        )
    except (OnnxExporterError, RuntimeError) as error:
        raise ValueError(
            f"network must be one that ONNX can express, got {_first_line(error)} ({config.network})"
        ) from error
    assert exported is not None
    proto: Any = exported.model_proto
    _name_batch(proto)
    return _serialize(proto, metadata or {})


def trace_onnx(network: nn.Module, config: ModelConfig) -> bytes:
    """Return an ONNX model made by PyTorch's older exporter, ten times as fast; it supports fewer networks.

    Callers run `check_export` on it.

    Raises:
        ValueError: the network has an operation that this exporter does not know.
    """
    names, out = output_names(config), io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that it is deprecated, and of every shape that Python reads
            torch.onnx.export(
                *_example(network, config),
                out,  # type: ignore[arg-type]
                dynamo=False,
                input_names=[INPUT_NAME],
                output_names=names,
                dynamic_axes={name: {0: "batch"} for name in (INPUT_NAME, *names)},
            )
    except (OnnxExporterError, RuntimeError) as error:
        raise ValueError(
            f"network must be one that can be traced, got {_first_line(error)} ({config.network})"
        ) from error
    return out.getvalue()


def export_program(network: nn.Module, config: ModelConfig) -> bytes:
    """Return a network as a torch.export program (`.pt2`) for any batch size, with its weights."""
    out = io.BytesIO()
    torch.export.save(_trace(network, config), out)
    return out.getvalue()


def check_export(network: nn.Module, config: ModelConfig, run: Run, batch_sizes: Sequence[int] = (1, 3)) -> float:
    """Return the largest difference between an export and its network, over all outputs, on images of noise.

    Args:
        network: float32, on the CPU, in eval mode.
        config: of the network.
        run: the export: images (B, 3, H, W) -> its outputs, in order.
        batch_sizes: to try.

    Raises:
        ValueError: it exceeds `TOLERANCE`, or is NaN.
    """
    size = config.input.size_px
    differences = []
    for num in batch_sizes:
        images_BCHW = torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(num))
        with torch.inference_mode():
            expected = [tensor.numpy() for tensor in _in_order(network(images_BCHW))]
        for one, other in zip(run(images_BCHW), expected, strict=True):
            differences.append(np.abs(one - other).max() / max(1.0, np.abs(other).max()))
    largest = float(np.max(differences))  # unlike Python's max, np.max propagates NaN
    if not largest <= TOLERANCE:
        raise ValueError(
            f"exported logits must be within {TOLERANCE} of the network's, got {largest:.3g} "
            f"({config.network}, {config.backbone}); please report this network and these versions: "
            f"{installed_versions('torch', 'onnx', 'onnxscript')}"
        )
    return largest


class _ExportedNetwork(nn.Module):
    """A network that returns plain tensors, the batch first in each."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that `output_names` names."""
        return _in_order(self.network(images))


def _in_order(output: NetworkOutput) -> tuple[Tensor, ...]:
    return tuple(tensor for _, tensor in output.named_tensors())


def _trace(network: nn.Module, config: ModelConfig) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(*_example(network, config), dynamic_shapes=({0: batch},))


def _example(network: nn.Module, config: ModelConfig) -> tuple[nn.Module, tuple[Tensor]]:
    """Return the module to trace and its arguments: two images, since tracers take a batch size of 1 for constant."""
    size = config.input.size_px
    return _ExportedNetwork(network).eval(), (torch.zeros(2, 3, size, size),)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))  # the whole graph may follow


def _name_batch(proto: Any) -> None:
    """Name the free dimension `batch` in place of the tracer's symbol."""
    values = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = "batch"


def _serialize(proto: Any, metadata: dict[str, str]) -> bytes:
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return bytes(proto.SerializeToString())


def _metadata(model: LoadedModel) -> dict[str, str]:
    return {"model_id": model.model_id, "config": json.dumps(model.config.to_json())}


def _describe(model: LoadedModel, format_name: str, difference: float) -> dict[str, Any]:
    config = model.config
    return {
        "format": 1,
        "model_id": model.model_id,
        "file": FILE_NAMES[format_name],
        "classes": list(config.classes),
        "input": {
            "name": INPUT_NAME,
            "shape": ["batch", 3, config.input.size_px, config.input.size_px],
            "dtype": "float32",
            "colours": "RGB",
            "trim": _TRIM if config.input.trim_margins else None,
            "resize": "squash the whole scan to the square, bilinear with antialiasing",
            "normalise": "(value / 255 - mean) / std",
            "mean": list(config.input.mean),
            "std": list(config.input.std),
        },
        "outputs": output_names(config),
        "scores": "sigmoid(logits)",
        "tolerance": TOLERANCE,
        "largest_difference": difference,
        "versions": installed_versions("torch", "timm", *(("onnx", "onnxscript") if format_name == "onnx" else ())),
    }
