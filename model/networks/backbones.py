"""How does an image become features? Any timm network, cut at its last L levels of resolution."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from shards import storage

_META: dict[str, Any] = {"device": "meta"}
_HUB_FILE = "model.safetensors"
_HUB_SECONDS = 10


def build_backbone(
    name: str,
    num_levels: int,
    *,
    image_size_px: int = 224,
    pretrained: bool = False,
    weights_file: str | None = None,
) -> nn.Module:
    """Return a module that gives a list of `num_levels` feature maps (B, D, h, w), finest first.

    `feature_info.channels()` has the depth of each. ResNets, Inception-v3 and DenseNet-121 give strides 8, 16
    and 32 for three levels, the 28x28, 14x14 and 7x7 of the CHR paper (Section 5.1) at 224 px.

    Args:
        name: of a timm network, e.g. `resnet34` or `resnet34.a1_in1k`.
        num_levels: how many of the last levels are wanted.
        image_size_px: side of the images; networks with attention are built for one size.
        pretrained: fetch ImageNet weights from the hub that timm uses.
        weights_file: a local safetensors file with the whole network's weights under timm's names; no hub then.

    Raises:
        ValueError: no such network, too few levels of growing stride, a size of images that it does not take, or
            weights that are absent or do not fit.
    """
    options = _choose_options(name, num_levels, image_size_px)
    if weights_file is not None:
        return _channels_first(_from_file(name, weights_file, options))
    if pretrained:
        return _channels_first(_from_hub(name, options))
    return _channels_first(timm.create_model(name, pretrained=False, **options))


class ChannelsFirst(nn.Module):
    """A backbone whose maps are (B, h, w, D), as Swin's, giving them as (B, D, h, w) like all others."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.feature_info = body.feature_info

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return the features, finest level first."""
        return [features_BhwD.permute(0, 3, 1, 2) for features_BhwD in self.body(images_BCHW)]


def normalisation_of(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of RGB in 0..1 that timm's pretrained weights of a backbone were made with.

    Not ImageNet's for all: Inception-v3 wants 0.5 for each.
    """
    found = timm.get_pretrained_cfg(name)
    if found is None:
        raise ValueError(f"backbone must be a timm network with pretrained weights, got {name!r}; use --no-pretrained")
    return tuple(found.mean), tuple(found.std)  # type: ignore[return-value]


def _channels_first(backbone: nn.Module) -> nn.Module:
    return ChannelsFirst(backbone) if getattr(backbone, "output_fmt", None) == "NHWC" else backbone


def _choose_options(name: str, num_levels: int, image_size_px: int) -> dict[str, Any]:
    """Return what to ask timm for. All is tried on the meta device, where nothing is allocated or computed."""
    options: dict[str, Any] = {"features_only": True, "img_size": image_size_px}
    try:
        try:
            network = timm.create_model(name, pretrained=False, **options, **_META)
        except TypeError:  # most networks take any size and have no such argument
            del options["img_size"]
            network = timm.create_model(name, pretrained=False, **options, **_META)
    except (RuntimeError, AttributeError, AssertionError, KeyError) as error:
        raise ValueError(f"backbone must be a timm network with feature levels, got {name!r}: {error}") from error
    strides = network.feature_info.reduction()
    if num_levels > len(strides):
        raise ValueError(f"num_levels must be <= {len(strides)}, the levels of {name!r}, got {num_levels}")
    if any(finer >= coarser for finer, coarser in pairwise(strides[-num_levels:])):
        raise ValueError(
            f"backbone must have {num_levels} levels of growing stride, got {strides[-num_levels:]} ({name!r}); "
            f"choose a network that halves its maps from stage to stage"
        )
    _try(_channels_first(network.eval()), name, image_size_px)
    return options | {"out_indices": tuple(range(len(strides) - num_levels, len(strides)))}


def _try(network: nn.Module, name: str, image_size_px: int) -> None:
    """Raise ValueError where a network of the meta device does not take images of this size."""
    try:
        with torch.no_grad():
            network(torch.empty(1, 3, image_size_px, image_size_px, **_META))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"image_size_px must be one that the backbone {name!r} takes, got {image_size_px}: {error}; "
            f"choose another size, or a backbone that takes any, e.g. resnet34"
        ) from error


def _from_file(name: str, weights_file: str, options: dict[str, Any]) -> nn.Module:
    path = storage.local_path(weights_file)
    if path is not None and not path.exists():
        raise ValueError(f"backbone weights must be a file that is there, got {weights_file!r}, which does not exist")
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
        _ask_hub(name)
        backbone: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client, its HTTP library and the socket each have errors of their own
        raise ValueError(
            f"ImageNet weights of {name!r} must be fetched from timm's hub, got {type(error).__name__}: {error}; "
            f"give --backbone-weights FILE (safetensors), or --no-pretrained to train from scratch"
        ) from error
    return backbone


def _ask_hub(name: str) -> None:
    """Raise where weights are not in the hub's cache and the hub does not answer one question at once.

    timm asks for file after file, each six times with growing pauses: without a network a minute and a half, and a
    warning for each time.
    """
    found = timm.get_pretrained_cfg(name)
    if found is None or not found.hf_hub_id:
        return
    repository, _, revision = found.hf_hub_id.partition("@")
    place = {"repo_id": repository, "filename": _HUB_FILE, "revision": revision or None}
    if not isinstance(huggingface_hub.try_to_load_from_cache(**place), str):
        with suppress(EntryNotFoundError):  # timm knows other names of files
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**place), timeout=_HUB_SECONDS)
