"""Load ImageNet weights of a backbone, from a safetensors file or from timm's hub."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import nn

from shards import storage

_HUB_FILE = "model.safetensors"
_HUB_SECONDS = 10


def pretrained_normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of RGB in 0..1 that timm's pretrained weights of a backbone were made with.

    Not ImageNet's for all: Inception-v3 wants 0.5 for each.
    """
    found = timm.get_pretrained_cfg(name)
    if found is None:
        raise ValueError(f"backbone must be a timm network with pretrained weights, got {name!r}; use --no-pretrained")
    return tuple(found.mean), tuple(found.std)  # type: ignore[return-value]


def create_from_file(name: str, weights_file: str, options: dict[str, Any]) -> nn.Module:
    """Return a timm network with the weights of a local safetensors file.

    Args:
        name: of a timm network.
        weights_file: the whole network's weights under timm's names.
        options: other arguments of `timm.create_model`.

    Raises:
        ValueError: the file is absent, not safetensors, or does not fit the network.
    """
    path = storage.local_path(weights_file)
    if path is not None and not path.exists():
        raise ValueError(f"backbone weights must be a file that is there, got {weights_file!r}, which does not exist")
    if path is None or path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(
            f"backbone weights must be a local .safetensors file, got {weights_file!r}; pickles are never loaded: "
            f"convert them with `safetensors.torch.save_file`"
        )
    _check_shapes(name, path)
    backbone: nn.Module = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options
    )
    return backbone


def _check_shapes(name: str, path: Path) -> None:
    # With features_only timm loads what it finds and leaves the rest random.
    needed = timm.create_model(name, pretrained=False, num_classes=0, device="meta").state_dict()
    try:
        with safe_open(path, framework="pt") as handle:
            shapes = {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"backbone weights must be a safetensors file, got {error} ({path})") from error
    unfit = [key for key, value in needed.items() if shapes.get(key) != tuple(value.shape)]
    if unfit:
        raise ValueError(
            f"backbone weights must fit {name!r} under timm's names, got shape {shapes.get(unfit[0], 'none')} for "
            f"{unfit[0]!r}, one of {len(unfit)} that differ or have none ({path})"
        )


def create_from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    """Return a timm network with ImageNet weights from timm's hub or its cache; ValueError if they cannot be had."""
    try:
        _check_hub(name)
        backbone: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client, its HTTP library and the socket each have errors of their own
        raise ValueError(
            f"ImageNet weights of {name!r} must be fetched from timm's hub, got {type(error).__name__}: {error}; "
            f"give --backbone-weights FILE (safetensors), or --no-pretrained to train from scratch"
        ) from error
    return backbone


def _check_hub(name: str) -> None:
    """Raise if the weights are not cached and the hub does not answer one request.

    Without a network timm itself retries each file six times, which takes a minute and a half.
    """
    found = timm.get_pretrained_cfg(name)
    if found is None or not found.hf_hub_id:
        return
    repository, _, revision = found.hf_hub_id.partition("@")
    place = {"repo_id": repository, "filename": _HUB_FILE, "revision": revision or None}
    if not isinstance(huggingface_hub.try_to_load_from_cache(**place), str):
        with suppress(EntryNotFoundError):  # timm knows other names of files
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**place), timeout=_HUB_SECONDS)
