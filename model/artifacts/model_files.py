"""Read and check the files of a model folder, without PyTorch, so that a run with nothing to do is quick."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from model.networks.config import check_format
from shards import storage
from shards.format.json_document import parse_object, read_existing

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
STORE_KEYS = ("weights_sha256", "provenance")
"""Keys of `config.json` that are not fields of `ModelConfig`."""
QUANTIZATION_KEY = "quantization"
"""One more, of quantized models alone."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The two files of a model, read; the weights have the checksum that the config records."""

    folder: str
    model_id: str
    """`<network>-<backbone>-<first 12 hex digits of the sha256 over weights and config>`."""
    document: dict[str, Any]
    """`config.json`."""
    weights: bytes

    @property
    def config_url(self) -> str:
        """Where `config.json` is."""
        return storage.join_url(self.folder, CONFIG_NAME)


def read_model_files(folder: str) -> ModelFiles:
    """Return the files of a model folder (any fsspec URL).

    Raises:
        ValueError: a file is absent, damaged, changed since it was written, or a pickle.
    """
    config_text, weights = _read(folder, CONFIG_NAME), _read(folder, WEIGHTS_NAME)
    document = _parse_config(config_text, storage.join_url(folder, CONFIG_NAME))
    _check_weights(weights, document["weights_sha256"], storage.join_url(folder, WEIGHTS_NAME))
    model_id = make_model_id(document["network"], document["backbone"], weights, config_text)
    return ModelFiles(folder, model_id, document, weights)


def make_model_id(network: str, backbone: str, weights: bytes, config_text: bytes) -> str:
    """Return the id of a model, the name of its predictions folder."""
    digest = hashlib.sha256(weights + config_text).hexdigest()
    return f"{network}-{re.sub(r'[^A-Za-z0-9._]+', '_', backbone)}-{digest[:12]}"


def _read(folder: str, name: str) -> bytes:
    return read_existing(
        storage.join_url(folder, name),
        f"model must be a folder with {WEIGHTS_NAME} and {CONFIG_NAME}, got no {name} ({folder}); "
        f"`sixray train` writes one as RUN_DIR/model",
    )


def _parse_config(text: bytes, url: str) -> dict[str, Any]:
    document = parse_object(text, CONFIG_NAME, url)
    check_format(document, url)
    if absent := [name for name in STORE_KEYS if name not in document]:
        raise ValueError(f"{CONFIG_NAME} must have the keys {list(STORE_KEYS)}, got no {absent} ({url})")
    for name in ("network", "backbone"):
        if not isinstance(document.get(name), str):
            raise ValueError(f"{name} must be one str, got {document.get(name)!r} ({url})")
    return document


def _check_weights(weights: bytes, expected_sha256: str, url: str) -> None:
    # A pickle opens with 0x80, torch.save's zip with PK; safetensors has 8 bytes of length and then a brace.
    if weights[:4] == b"PK\x03\x04" or (weights[:1] == b"\x80" and weights[8:9] != b"{"):
        raise ValueError(f"{WEIGHTS_NAME} must be a safetensors file, got a pickle ({url}); pickles are never loaded")
    found = hashlib.sha256(weights).hexdigest()
    if found != expected_sha256:
        raise ValueError(
            f"{WEIGHTS_NAME} must have the sha256 {expected_sha256} that {CONFIG_NAME} records, got {found} ({url}); "
            f"the file was damaged or exchanged: copy the model again"
        )
