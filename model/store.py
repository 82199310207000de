"""How does a model lie at rest? `model.safetensors` and `config.json`: no pickle is ever written or loaded."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from model.network import ModelConfig, build_network, count_parameters
from shards import storage

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
_STORE_KEYS = ("weights_sha256", "provenance")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to score."""

    network: nn.Module
    """In eval mode, float32, on the CPU."""
    config: ModelConfig
    model_id: str
    """`<network>-<backbone>-<first 12 hex digits of the sha256 over weights and config>`."""
    provenance: dict[str, Any]
    """What made it: recipe, dataset digest, epoch, validation mean AP, versions; empty where unknown."""


def save_model(folder: str, network: nn.Module, config: ModelConfig, provenance: dict[str, Any] | None = None) -> str:
    """Write a model folder, `config.json` last; equal arguments give equal bytes. Return the model's id.

    Args:
        folder: any fsspec URL.
        network: built by `build_network(config)`; moved nowhere, its weights are copied to the CPU as float32.
        config: kept in `config.json`.
        provenance: JSON values that say what made the model; it enters the id, so it must not hold a time of day.
    """
    weights = safetensors.torch.save(_plain_state(network))
    document = config.to_json() | {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "provenance": provenance or {},
    }
    text = (json.dumps(document, indent=1, sort_keys=False, allow_nan=False) + "\n").encode()
    storage.write_bytes(storage.join_url(folder, WEIGHTS_NAME), weights)
    storage.write_bytes(storage.join_url(folder, CONFIG_NAME), text)
    return _model_id(config, weights, text)


def load_model(folder: str) -> LoadedModel:
    """Return the model in a folder (any fsspec URL).

    Raises:
        ValueError: a file is absent, damaged, changed since it was written, a pickle, or of another format; or the
            weights are not those of the network that the config names.
    """
    config_text, weights = _read(folder, CONFIG_NAME), _read(folder, WEIGHTS_NAME)
    config, document = _parse_config(config_text, storage.join_url(folder, CONFIG_NAME))
    state = _parse_weights(weights, document["weights_sha256"], storage.join_url(folder, WEIGHTS_NAME))
    network = build_network(config)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"weights must be those of {config.network!r} on {config.backbone!r}, got {error} ({folder})"
        ) from error
    return LoadedModel(network.eval(), config, _model_id(config, weights, config_text), document["provenance"])


def describe_model(folder: str) -> dict[str, Any]:
    """Return what `sixray info` shows of a model; the weights are checked as `load_model` does."""
    model = load_model(folder)
    return {
        "model_id": model.model_id,
        "network": model.config.network,
        "backbone": model.config.backbone,
        "classes": list(model.config.classes),
        "num_levels": model.config.num_levels,
        "image_size_px": model.config.image_size_px,
        "num_parameters": count_parameters(model.network),
        "weights_bytes": len(_read(folder, WEIGHTS_NAME)),
        "provenance": model.provenance,
    }


def is_model(folder: str) -> bool:
    """Say whether a folder claims to hold a model."""
    return storage.exists(storage.join_url(folder, CONFIG_NAME))


def _plain_state(network: nn.Module) -> dict[str, torch.Tensor]:
    # One dtype and one memory layout (training may use channels_last): bytes depend on the values alone.
    return {
        name: (value.detach().float() if value.is_floating_point() else value.detach()).cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }


def _read(folder: str, name: str) -> bytes:
    url = storage.join_url(folder, name)
    try:
        return storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"model must be a folder with {WEIGHTS_NAME} and {CONFIG_NAME}, got no {name} ({folder}); "
            f"`sixray train` writes one as RUN_DIR/model"
        ) from error


def _parse_config(text: bytes, url: str) -> tuple[ModelConfig, dict[str, Any]]:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{CONFIG_NAME} must be a JSON document, got {error} ({url})") from error
    if not isinstance(document, dict):
        raise ValueError(f"{CONFIG_NAME} must be a JSON object, got {type(document).__name__} ({url})")
    config = ModelConfig.from_json({name: v for name, v in document.items() if name not in _STORE_KEYS}, url)
    if absent := [name for name in _STORE_KEYS if name not in document]:
        raise ValueError(f"{CONFIG_NAME} must have the keys {list(_STORE_KEYS)}, got no {absent} ({url})")
    return config, document


def _parse_weights(weights: bytes, expected_sha256: str, url: str) -> dict[str, torch.Tensor]:
    # A pickle opens with 0x80, torch.save's zip with PK; safetensors has 8 bytes of length and then a brace.
    if weights[:4] == b"PK\x03\x04" or (weights[:1] == b"\x80" and weights[8:9] != b"{"):
        raise ValueError(f"{WEIGHTS_NAME} must be a safetensors file, got a pickle ({url}); pickles are never loaded")
    found = hashlib.sha256(weights).hexdigest()
    if found != expected_sha256:
        raise ValueError(
            f"{WEIGHTS_NAME} must have the sha256 {expected_sha256} that {CONFIG_NAME} records, got {found} ({url}); "
            f"the file was damaged or exchanged: copy the model again"
        )
    try:
        state: dict[str, torch.Tensor] = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS_NAME} must be a safetensors file, got {error} ({url})") from error
    return state


def _model_id(config: ModelConfig, weights: bytes, config_text: bytes) -> str:
    digest = hashlib.sha256(weights + config_text).hexdigest()
    backbone = re.sub(r"[^A-Za-z0-9._]+", "_", config.backbone)
    return f"{config.network}-{backbone}-{digest[:12]}"
