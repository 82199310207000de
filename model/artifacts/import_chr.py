"""Import a checkpoint of the authors' CHR code: map its names and check its shapes, without running pickled code.

`torch.load(weights_only=True)` reads tensors and plain values and refuses everything else that a pickle can name. NumPy
scalars, such as the best score, are read by code of this module, since NumPy's own trusts the pickle.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.networks.config import ModelConfig
from model.networks.registry import build_network
from shards import storage
from shards.format.classes import load_class_set

_HEADS = {
    "own.0": "cov2_1",
    "own.1": "cov3_1",
    "own.2": "cov4",
    "mixes.0": "cov2",
    "mixes.1": "cov3",
    "classifiers.0.score": "fc3",
    "classifiers.1.score": "fc2",
    "classifiers.2.score": "fc1",
}
_STEM = {"conv1": "features.0", "bn1": "features.1"}


def import_checkpoint(url: str, classes: Sequence[str] | None = None) -> tuple[nn.Module, ModelConfig, dict[str, Any]]:
    """Return network, config and provenance of a checkpoint that the authors' code wrote.

    Args:
        url: of the file, any fsspec URL: written by `torch.save`, either `{"state_dict": …, "epoch": …}` or the
            weights alone, with or without DataParallel's prefix `module.`.
        classes: in the order of the checkpoint's outputs; SIXray's five by default.

    Raises:
        ValueError: the file is no such checkpoint, holds a pickled object, or its shapes are not those of the graph.
    """
    data = storage.read_bytes(url)
    checkpoint = _load(data, url)
    state = _state_of(checkpoint, url)
    # The authors used PyTorch 0.3.1. Up-sampling changed in 0.4.0; batch norms count their batches since 0.4.1.
    is_recent = any(name.endswith("num_batches_tracked") for name in state)
    names = tuple(load_class_set("sixray").scored if classes is None else classes)
    kind = "chr_authors" if is_recent else "chr_authors_corners"
    config = ModelConfig(network=kind, backbone="resnet101", classes=names)
    network = build_network(config)
    network.load_state_dict(_translate(state, network.state_dict(), url))
    provenance = {
        "imported_from": storage.base_name(url),
        "sha256": hashlib.sha256(data).hexdigest(),
        "epoch": _number(checkpoint.get("epoch")),
        "best_score": _number(checkpoint.get("best_score")),
    }
    return network.eval(), config, provenance


def _load(data: bytes, url: str) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(list(_NUMPY_SCALARS)):
            checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise errors of many types
        raise ValueError(
            f"checkpoint must hold tensors and plain values alone, got {_what_was_refused(error)} ({url}); code in a "
            f"pickle is never run: where the checkpoint was made, save its state_dict alone with torch.save"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"checkpoint must be a dict with a state_dict, got {type(checkpoint).__name__} ({url})")
    return checkpoint


def _state_of(checkpoint: dict[str, Any], url: str) -> dict[str, Tensor]:
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"state_dict must be tensors by name, got other values ({url})")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _translate(state: dict[str, Tensor], expected: dict[str, Tensor], url: str) -> dict[str, Tensor]:
    """Return the state under this code's names; ValueError if one is absent, left over or of another shape."""
    theirs = {name: _their_name(name) for name in expected}
    unknown = sorted(set(state) - set(theirs.values()))
    absent = sorted(name for name in set(theirs.values()) - set(state) if not name.endswith("num_batches_tracked"))
    if unknown or absent:
        raise ValueError(
            f"checkpoint must have the parameters of the authors' ResNet-101 CHR, got {len(unknown)} others "
            f"(first: {unknown[:1]}) and {len(absent)} missing (first: {absent[:1]}) ({url})"
        )
    found = {name: _reshape(state.get(theirs[name]), value) for name, value in expected.items()}
    if unfit := next((name for name, value in found.items() if value.shape != expected[name].shape), None):
        shapes = f"{tuple(found[unfit].shape)} rather than {tuple(expected[unfit].shape)}"
        raise ValueError(
            f"{theirs[unfit]} must have the shape of its layer, got {shapes} ({url}); name as many --classes as it has"
        )
    return found


def _their_name(name: str) -> str:
    layer, _, leaf = name.removeprefix("backbone.").rpartition(".")
    return f"{_HEADS.get(layer) or _STEM.get(layer, layer)}.{leaf}"


def _reshape(value: Tensor | None, expected: Tensor) -> Tensor:
    if value is None:  # num_batches_tracked, which an old PyTorch did not count
        return torch.zeros_like(expected)
    # A linear layer after the average is a 1x1 convolution before it.
    return value[:, :, None, None] if value.ndim == 2 and expected.ndim == 4 else value


def _number(value: Any) -> float | int | None:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    return value if isinstance(value, (int, float)) else None


class _ScalarDtype:
    """Replaces numpy.dtype while a checkpoint is read; keeps only the byte order of the pickled state."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[fiub][1248]", code):
            raise ValueError(f"dtype must be that of a number, got {code!r}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.code = f">{self.code}"


def _read_scalar(dtype: _ScalarDtype, data: bytes) -> float | int | bool:
    value: float | int | bool = np.frombuffer(data, np.dtype(dtype.code), count=1)[0].item()
    return value


_NUMPY_SCALARS = (
    (_ScalarDtype, "numpy.dtype"),
    (_read_scalar, "numpy.core.multiarray.scalar"),
    (_read_scalar, "numpy._core.multiarray.scalar"),  # from numpy 2 on
)
"""Readers of NumPy scalars, in place of the functions that a pickle names."""


def _what_was_refused(error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"an object of {found.group(1)}" if found else f"bytes that torch.load cannot read ({type(error).__name__})"
