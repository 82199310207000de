"""What is a network told, and what does it say? Its config at birth and its output.

Shapes: B batch  K classes  L levels  H W pixels of an image  h w cells of a heatmap
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from shards.format import json_document

FORMAT_VERSION = 1
"""Of `config.json`."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = 240
"""A margin has no darker value in any colour. Pure white is 255; JPEG of quality 75 stays above 245 beside it, and the
palest parts of a bag lie below 240."""
FUSIONS = ("average", "gated", "meta")
"""How the levels' logits become one: equal weights, or weights that a small network reads off the scan, learnt from the
classification alone (gated) or from labels too (meta). Gated and meta are one network: the training differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig:
    """What the attention head of `sxmnet` is made of (SXMNet, Section 3.2)."""

    num_upsamples: int = 1
    """Upsample modules on the finest level: 0, 1, 2 give masks of 28, 56, 112 cells a side at 224 px (Table 6)."""
    sees_image: bool = True
    """The rescaled scan joins the features before each upsampling (Table 7), so never where there is none."""

    def __post_init__(self) -> None:
        if not 0 <= self.num_upsamples <= 3:
            raise ValueError(f"num_upsamples must be in 0..3, got {self.num_upsamples}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """All that is needed, beside the weights, to score a scan."""

    network: str = "chr"
    """A name in `model.networks.registry.NETWORKS`."""
    backbone: str
    """A timm name with as many feature levels as asked for."""
    classes: tuple[str, ...]
    num_levels: int = 3
    """L, counted from the backbone's last stage down; level 1 is the finest. The CHR paper finds 3 sufficient."""
    image_size_px: int = 224
    """Scoring squashes every scan to a square of this side."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from RGB in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """RGB in 0..1 is divided by this after the subtraction."""
    fusion: str = "average"
    """One of `FUSIONS`."""
    attention: AttentionConfig | None = None
    """For the network `sxmnet`, and for it alone."""
    trim_margins: bool = False
    """White margins are cut off before a scan is squashed, in training and in scoring (SXMNet, Section 4.1)."""

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be different names, at least one, got {self.classes}")
        if self.num_levels < 1:
            raise ValueError(f"num_levels must be >= 1, got {self.num_levels}")
        if self.image_size_px < 32:
            raise ValueError(f"image_size_px must be >= 32, the stride of the backbones, got {self.image_size_px}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std must be 3 values, std > 0, got {self.mean} and {self.std}")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {FUSIONS}, got {self.fusion!r}")
        if self.fusion != "average" and self.num_levels == 1:
            raise ValueError(f"fusion must be 'average' where there is one level, got {self.fusion!r}")
        if (self.network == "sxmnet") != (self.attention is not None):
            raise ValueError(
                f"attention must be given for the network 'sxmnet' and for no other, got {self.attention} "
                f"for {self.network!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; `from_json` gives an equal config.

        What came after the first release stands there only where it is not the default: a network that needs none of it
        is written as before and keeps its id.
        """
        values = {name: value for name, value in asdict(self).items() if value != _LATER_DEFAULTS.get(name, _NO_VALUE)}
        return {"format": FORMAT_VERSION} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], where: str) -> "ModelConfig":
        """Parse what `to_json` gave; ValueError names `where` and what is unknown, absent or of another format."""
        check_format(document, where)
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in document.items() if name != "format"
        }
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"model config must have the keys {sorted(known)}, got also {unknown} ({where})")
        for name, value in values.items():
            _check_type(name, value, where)
        try:
            if "attention" in values:
                values["attention"] = AttentionConfig(**values["attention"])
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"model config must be complete, got {json.dumps(document)} ({where}): {error}") from error


_NO_VALUE = object()
_LATER_DEFAULTS: dict[str, Any] = {"fusion": "average", "attention": None, "trim_margins": False}
_TYPES: dict[str, tuple[type, ...]] = {
    "network": (str,),
    "backbone": (str,),
    "classes": (str,),
    "num_levels": (int,),
    "image_size_px": (int,),
    "mean": (int, float),
    "std": (int, float),
    "fusion": (str,),
    "attention": (dict,),
    "trim_margins": (bool,),
}


def _check_type(name: str, value: Any, where: str) -> None:
    is_list = name in ("classes", "mean", "std")
    items = value if isinstance(value, tuple) else (value,)
    good = is_list == isinstance(value, tuple) and all(
        isinstance(item, _TYPES[name]) and (not isinstance(item, bool) or bool in _TYPES[name]) for item in items
    )
    if not good:
        what = " or ".join(kind.__name__ for kind in _TYPES[name])
        raise ValueError(f"{name} must be {'a list of ' if is_list else 'one '}{what}, got {value!r} ({where})")


def check_format(document: dict[str, Any], where: str) -> None:
    """Raise ValueError where a model's config is of a format that this release does not read."""
    json_document.check_format(
        document, FORMAT_VERSION, "model", where, "load it with the release of sixray-pipeline that wrote it"
    )
