"""Configure a network: its architecture, its classes and its input.

Shapes: K classes  L levels
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from shards.format import json_document

FORMAT_VERSION = 1
"""Of `config.json`."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = 240
"""A margin has no darker value in any colour. Pure white is 255; JPEG of quality 75 stays above 245 beside it, and the
palest parts of a bag lie below 240."""
FUSIONS = ("average", "top", "gated", "meta")
"""How the levels' logits are fused: with equal weights, by the top level alone (as the authors' code of CHR rates it),
or with weights that a small network computes from the scan, learnt from the classification alone (gated) or from labels
too (meta). Gated and meta differ in training only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig:
    """The attention head of `sxmnet` (SXMNet, Section 3.2)."""

    num_upsamples: int = 1
    """Upsample modules on the finest level: 0, 1, 2 give masks of 28, 56, 112 cells a side at 224 px (Table 6)."""
    sees_image: bool = True
    """The rescaled scan is concatenated to the features in each upsample module (Table 7)."""

    def __post_init__(self) -> None:
        if not 0 <= self.num_upsamples <= 3:
            raise ValueError(f"num_upsamples must be in 0..3, got {self.num_upsamples}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """How a scan becomes the input of a network."""

    size_px: int = 224
    """Scoring squashes every scan to a square of this side."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from RGB in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """RGB in 0..1 is divided by this after the subtraction."""
    trim_margins: bool = False
    """White margins are cut off before a scan is squashed, in training and in scoring (SXMNet, Section 4.1)."""

    def __post_init__(self) -> None:
        if self.size_px < 32:
            raise ValueError(f"image_size_px must be >= 32, the stride of the backbones, got {self.size_px}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std must be 3 values, std > 0, got {self.mean} and {self.std}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything that scoring needs beside the weights."""

    network: str = "chr"
    """A name in `model.networks.registry.NETWORKS`."""
    backbone: str
    """The name of a timm network with at least `num_levels` feature levels."""
    classes: tuple[str, ...]
    num_levels: int = 3
    """L, counted from the backbone's last stage down; level 1 is the finest. The CHR paper finds 3 sufficient."""
    input: InputConfig = field(default_factory=InputConfig)
    fusion: str = "average"
    """One of `FUSIONS`."""
    attention: AttentionConfig | None = None
    """For the network `sxmnet` only."""
    complete_levels: bool = False
    """Levels end with the layers that the whole network has before it uses them; see `backbones.build_backbone`."""

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be different names, at least one, got {self.classes}")
        if self.num_levels < 1:
            raise ValueError(f"num_levels must be >= 1, got {self.num_levels}")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {FUSIONS}, got {self.fusion!r}")
        if self.fusion != "average" and self.num_levels == 1:
            raise ValueError(f"fusion must be 'average' for a single level, got {self.fusion!r}")
        if (self.network == "sxmnet") != (self.attention is not None):
            raise ValueError(
                f"attention must be given for the network 'sxmnet' and for no other, got {self.attention} "
                f"for {self.network!r}"
            )

    @property
    def image_size_px(self) -> int:
        """`input.size_px`, by its name in `config.json`."""
        return self.input.size_px

    @property
    def mean(self) -> tuple[float, float, float]:
        """`input.mean`, by its name in `config.json`."""
        return self.input.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """`input.std`, by its name in `config.json`."""
        return self.input.std

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document, without nesting the input; `from_json` gives an equal config.

        Keys that came after the first release are left out at their default, so that older models keep their id.
        """
        later = {
            "fusion": self.fusion,
            "attention": None if self.attention is None else asdict(self.attention),
            "trim_margins": self.input.trim_margins,
            "complete_levels": self.complete_levels,
        }
        return {
            "format": FORMAT_VERSION,
            "network": self.network,
            "backbone": self.backbone,
            "classes": list(self.classes),
            "num_levels": self.num_levels,
            "image_size_px": self.input.size_px,
            "mean": list(self.input.mean),
            "std": list(self.input.std),
        } | {name: value for name, value in later.items() if value not in ("average", None, False)}

    @classmethod
    def from_json(cls, document: dict[str, Any], where: str) -> "ModelConfig":
        """Parse a document of `to_json`; ValueError names `where` and the unknown, absent or mistyped key."""
        check_format(document, where)
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in document.items() if name != "format"
        }
        if unknown := sorted(set(values) - set(_TYPES)):
            raise ValueError(f"model config must have the keys {sorted(_TYPES)}, got also {unknown} ({where})")
        for name, value in values.items():
            _check_type(name, value, where)
        of_input = {name: values.pop(key) for key, name in _INPUT_KEYS.items() if key in values}
        try:
            if "attention" in values:
                values["attention"] = AttentionConfig(**values["attention"])
            return cls(input=InputConfig(**of_input), **values)
        except TypeError as error:
            raise ValueError(f"model config must be complete, got {json.dumps(document)} ({where}): {error}") from error


_INPUT_KEYS = {"image_size_px": "size_px", "mean": "mean", "std": "std", "trim_margins": "trim_margins"}
"""Key of the document -> field of `InputConfig`."""
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
    "complete_levels": (bool,),
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
    """Raise ValueError if a model's config has a format that this release does not read."""
    json_document.check_format(
        document, FORMAT_VERSION, "model", where, "load it with the release of sixray-pipeline that wrote it"
    )
