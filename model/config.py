"""What is a network told, and what does it say? Its config at birth and its output.

Shapes: B batch  K classes  L levels  H W pixels of an image  h w cells of a heatmap
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor

from model.identity import FORMAT_VERSION, check_format

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """All that is needed, beside the weights, to score a scan."""

    network: str = "chr"
    """A name in `model.network.NETWORKS`."""
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

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be different names, at least one, got {self.classes}")
        if self.num_levels < 1:
            raise ValueError(f"num_levels must be >= 1, got {self.num_levels}")
        if self.image_size_px < 32:
            raise ValueError(f"image_size_px must be >= 32, the stride of the backbones, got {self.image_size_px}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std must be 3 values, std > 0, got {self.mean} and {self.std}")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; `from_json` gives an equal config."""
        return {"format": FORMAT_VERSION} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
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
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"model config must be complete, got {json.dumps(document)} ({where}): {error}") from error


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What a network says of a batch: everything that scores, peaks and losses need, from one pass."""

    level_logits_LBK: Tensor
    """float32; level 1 (finest) first."""
    heatmaps: tuple[Tensor, ...]
    """Class activation maps of level 1 to L, each float32 (B, K, h, w), in logits: the mean over the cells of a
    map is that level's logit."""

    @property
    def logits_BK(self) -> Tensor:
        """The fused prediction, Eq. 5 of the CHR paper: the mean over levels, taken of logits, not probabilities.

        The paper averages the classifiers' outputs y; its loss takes logarithms of y, so y could be read as
        probabilities too. A mean of logits keeps the order within a level, does not saturate, and is what
        `sigmoid(logits)` as the score of a prediction asks for.
        """
        return self.level_logits_LBK.mean(dim=0)


_TYPES: dict[str, tuple[type, ...]] = {
    "network": (str,),
    "backbone": (str,),
    "classes": (str,),
    "num_levels": (int,),
    "image_size_px": (int,),
    "mean": (int, float),
    "std": (int, float),
}


def _check_type(name: str, value: Any, where: str) -> None:
    is_list = name in ("classes", "mean", "std")
    items = value if isinstance(value, tuple) else (value,)
    good = is_list == isinstance(value, tuple) and all(
        isinstance(item, _TYPES[name]) and not isinstance(item, bool) for item in items
    )
    if not good:
        what = " or ".join(kind.__name__ for kind in _TYPES[name])
        raise ValueError(f"{name} must be {'a list of ' if is_list else 'one '}{what}, got {value!r} ({where})")
