"""Save and load a model folder, `model.safetensors` and `config.json`: no pickle is ever written or loaded."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from model.artifacts.model_files import (
    CONFIG_NAME,
    QUANTIZATION_KEY,
    STORE_KEYS,
    WEIGHTS_NAME,
    ModelFiles,
    make_model_id,
    read_model_files,
)
from model.artifacts.onnx_network import OnnxNetwork
from model.networks.registry import ModelConfig, build_network, count_parameters
from shards import storage
from shards.host import count_cores

_ONNX_TENSOR = "model.int8.onnx"
"""The one tensor of a quantized model's weights: the bytes of its ONNX model."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to score."""

    network: nn.Module
    """In eval mode, on the CPU: float32, or an `OnnxNetwork` with convolutions in int8."""
    config: ModelConfig
    model_id: str
    """`<network>-<backbone>-<first 12 hex digits of the sha256 over weights and config>`."""
    provenance: dict[str, Any]
    """Recipe, dataset digest, epoch, validation mean AP, versions; empty if unknown."""
    quantization: dict[str, Any] | None = None
    """Of a quantized model: what it was made of and what it lost; see `pipelines.quantize`."""


def save_model(folder: str, network: nn.Module, config: ModelConfig, provenance: dict[str, Any] | None = None) -> str:
    """Write a model folder, `config.json` last; equal arguments give equal bytes. Return the model's id.

    Args:
        folder: any fsspec URL.
        network: built by `build_network(config)`; its weights are copied to the CPU as float32.
        config: for `config.json`.
        provenance: JSON values that describe the run; part of the id, so it must not hold a time of day.
    """
    return _write(folder, _plain_state(network), config, {"provenance": provenance or {}})


def save_quantized_model(
    folder: str, onnx_file: bytes, config: ModelConfig, provenance: dict[str, Any], quantization: dict[str, Any]
) -> str:
    """Write the folder of a quantized model, `config.json` last; return the model's id.

    Args:
        folder: any fsspec URL.
        onnx_file: made by `quantize_onnx`.
        config: of the model that was quantized.
        provenance: likewise.
        quantization: JSON values, with `source_model_id` and `num_parameters` of that model.
    """
    state = {_ONNX_TENSOR: torch.frombuffer(bytearray(onnx_file), dtype=torch.uint8)}
    return _write(folder, state, config, {"provenance": provenance, QUANTIZATION_KEY: quantization})


def _write(folder: str, state: dict[str, torch.Tensor], config: ModelConfig, more: dict[str, Any]) -> str:
    weights = safetensors.torch.save(state)
    document = config.to_json() | {"weights_sha256": hashlib.sha256(weights).hexdigest()} | more
    text = (json.dumps(document, indent=1, sort_keys=False, allow_nan=False) + "\n").encode()
    storage.write_bytes(storage.join_url(folder, WEIGHTS_NAME), weights)
    storage.write_bytes(storage.join_url(folder, CONFIG_NAME), text)
    return make_model_id(config.network, config.backbone, weights, text)


def load_model(folder: str) -> LoadedModel:
    """Return the model in a folder (any fsspec URL).

    Raises:
        ValueError: a file is absent, damaged, changed since it was written, a pickle, or of another format; or the
            weights are not those of the network that the config names.
    """
    return _load(read_model_files(folder))


def _load(files: ModelFiles) -> LoadedModel:
    document = files.document
    store_keys = (*STORE_KEYS, QUANTIZATION_KEY)
    config = ModelConfig.from_json({k: v for k, v in document.items() if k not in store_keys}, files.config_url)
    quantization = document.get(QUANTIZATION_KEY)
    build = _build if quantization is None else _build_quantized
    network = build(_parse_weights(files), config, files.folder)
    return LoadedModel(network.eval(), config, files.model_id, document["provenance"], quantization)


def _build(state: dict[str, torch.Tensor], config: ModelConfig, folder: str) -> nn.Module:
    network = build_network(config)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"weights must be those of {config.network!r} on {config.backbone!r}, got {error} ({folder})"
        ) from error
    return network


def _build_quantized(state: dict[str, torch.Tensor], config: ModelConfig, folder: str) -> nn.Module:
    if list(state) != [_ONNX_TENSOR]:
        raise ValueError(
            f"weights of a quantized model must be one tensor {_ONNX_TENSOR!r}, got {list(state)[:3]} ({folder})"
        )
    return OnnxNetwork(state[_ONNX_TENSOR].numpy().tobytes(), config, count_cores())


def start_from(network: nn.Module, config: ModelConfig, folder: str) -> None:
    """Copy the weights of a model into a network, all but those of the classifiers and the selection network.

    These depend on the model's classes and levels, and stage I of SXMNet does not train them.

    Args:
        network: built by `build_network(config)`.
        config: may differ from the model's in classes, fusion and image size.
        folder: any fsspec URL.

    Raises:
        ValueError: the model cannot be loaded, or has another architecture or input.
    """
    model = load_model(folder)
    if model.quantization is not None:
        raise ValueError(
            f"model to start from must have weights in float32, got a quantized one ({folder}); start from "
            f"{model.quantization['source_model_id']}, which it was made of"
        )
    for expected, found in ((config, model.config), (config.input, model.config.input)):
        for name in ("network", "backbone", "num_levels", "attention", "trim_margins", "mean", "std"):
            wanted = getattr(expected, name, None)
            if getattr(found, name, None) != wanted:
                raise ValueError(
                    f"model to start from must have {name} {wanted!r}, got {getattr(found, name)!r} ({folder})"
                )
    state = model.network.state_dict()
    kept = {name: value for name, value in state.items() if name.split(".")[0] not in _HEADS}
    network.load_state_dict(kept, strict=False)


_HEADS = ("classifiers", "selection")


def describe_model(folder: str) -> dict[str, Any]:
    """Return what `sixray info` shows of a model, after checking the weights as `load_model` does."""
    files = read_model_files(folder)
    model = _load(files)
    return {
        "model_id": model.model_id,
        "network": model.config.network,
        "backbone": model.config.backbone,
        "classes": list(model.config.classes),
        "num_levels": model.config.num_levels,
        "image_size_px": model.config.input.size_px,
        "num_parameters": (model.quantization or {}).get("num_parameters", count_parameters(model.network)),
        "weights_bytes": len(files.weights),
        "provenance": model.provenance,
        **({"quantization": model.quantization} if model.quantization else {}),
    }


def is_model(folder: str) -> bool:
    """Say whether a folder holds the config of a model."""
    return storage.exists(storage.join_url(folder, CONFIG_NAME))


def _plain_state(network: nn.Module) -> dict[str, torch.Tensor]:
    # One dtype and one memory layout (training may use channels_last): bytes depend on the values alone.
    return {
        name: (value.detach().float() if value.is_floating_point() else value.detach()).cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }


def _parse_weights(files: ModelFiles) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = safetensors.torch.load(files.weights)
    except SafetensorError as error:
        url = storage.join_url(files.folder, WEIGHTS_NAME)
        raise ValueError(f"{WEIGHTS_NAME} must be a safetensors file, got {error} ({url})") from error
    return state
