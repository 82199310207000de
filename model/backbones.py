"""How does an image become features? Any timm network, cut at its last L levels of resolution."""

from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open
from torch import nn

from shards import storage


def build_backbone(
    name: str, num_levels: int, *, pretrained: bool = False, weights_file: str | None = None
) -> nn.Module:
    """Return a module that gives a list of `num_levels` feature maps, finest first.

    `feature_info.channels()` has the depth of each. ResNets, Inception-v3 and DenseNet-121 give strides 8, 16
    and 32 for three levels, the 28x28, 14x14 and 7x7 of the CHR paper (Section 5.1) at 224 px.

    Args:
        name: of a timm network, e.g. `resnet34` or `resnet34.a1_in1k`.
        num_levels: how many of the last levels are wanted.
        pretrained: fetch ImageNet weights from the hub that timm uses.
        weights_file: a local safetensors file with the whole network's weights under timm's names; no hub then.

    Raises:
        ValueError: no such network, too few levels, or weights that are absent or do not fit.
    """
    num_stages = _num_stages(name)
    if num_levels > num_stages:
        raise ValueError(f"num_levels must be <= {num_stages}, the levels of {name!r}, got {num_levels}")
    options: dict[str, Any] = {
        "features_only": True,
        "out_indices": tuple(range(num_stages - num_levels, num_stages)),
    }
    if weights_file is not None:
        return _from_file(name, weights_file, options)
    if not pretrained:
        backbone: nn.Module = timm.create_model(name, pretrained=False, **options)
        return backbone
    return _from_hub(name, options)


def normalisation_of(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of RGB in 0..1 that timm's pretrained weights of a backbone were made with.

    Not ImageNet's for all: Inception-v3 wants 0.5 for each.
    """
    found = timm.get_pretrained_cfg(name)
    if found is None:
        raise ValueError(f"backbone must be a timm network with pretrained weights, got {name!r}; use --no-pretrained")
    return tuple(found.mean), tuple(found.std)  # type: ignore[return-value]


def _num_stages(name: str) -> int:
    try:
        # On the meta device nothing is allocated: this only asks for the list of levels.
        network = timm.create_model(name, pretrained=False, features_only=True, **_META)
    except (RuntimeError, AttributeError, AssertionError, KeyError) as error:
        raise ValueError(f"backbone must be a timm network with feature levels, got {name!r}: {error}") from error
    return len(network.feature_info.channels())


_META: dict[str, Any] = {"device": "meta"}


def _from_file(name: str, weights_file: str, options: dict[str, Any]) -> nn.Module:
    path = storage.local_path(weights_file)
    if path is None or path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(
            f"backbone weights must be a local .safetensors file, got {weights_file!r}; pickles are never loaded: "
            f"convert them with `safetensors.torch.save_file`"
        )
    return _load(name, path, options)


def _load(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    # timm loads what it finds and leaves the rest random when only features are asked for: so look first.
    needed = timm.create_model(name, pretrained=False, num_classes=0, **_META).state_dict()
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
    backbone: nn.Module = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options
    )
    return backbone


def _from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client, its HTTP library and the socket each have errors of their own
        raise ValueError(
            f"ImageNet weights of {name!r} must be fetched from timm's hub, got {type(error).__name__}: {error}; "
            f"give --backbone-weights FILE (safetensors), or --no-pretrained to train from scratch"
        ) from error
    return backbone
