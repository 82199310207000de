"""Define labels, class sets (the prohibited items of a corpus and their spellings) and boxes; encode them as JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
"""Values of a label in arrays; unknown is null on disk."""

_NAME = re.compile(r"[\w-]+")
BOX_EDGES = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")
"""Fields of a box in tables: in pixels of the image as stored, x to the right, y down."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ClassSet:
    """The classes of a corpus, in the order of its lists."""

    scored: tuple[str, ...]
    """Classes that networks learn and reports evaluate; the columns of the corpus' lists."""
    unscored: tuple[str, ...] = ()
    """Classes that only have boxes (Hammer: 60 scans, excluded from the papers' experiments)."""
    other_spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Other spellings of a class in annotations; case is ignored."""

    @property
    def all(self) -> tuple[str, ...]:
        """Scored classes, then unscored ones: the fields of a sample's labels."""
        return self.scored + self.unscored

    @property
    def spellings(self) -> dict[str, str]:
        """The class of each known spelling, in lower case."""
        own = {name.lower(): name for name in self.all}
        return own | {text.lower(): name for name, texts in self.other_spellings.items() for text in texts}


def load_class_set(name: str) -> ClassSet:
    """Return the class set called `name` in `classes.json`; ValueError if unknown."""
    table = json.loads(resources.files("shards.format").joinpath("classes.json").read_text())
    if name not in table:
        raise ValueError(f"class set must be one of {sorted(table)}, got {name!r}")
    entry = table[name]
    other_spellings = {class_name: tuple(texts) for class_name, texts in entry["spellings"].items()}
    return ClassSet(tuple(entry["scored"]), tuple(entry["unscored"]), other_spellings)


def make_class_set(names: Sequence[str], spellings: Mapping[str, str], base: ClassSet | None = None) -> ClassSet:
    """Return the classes `names`, all scored, or those of `base` if no names are given, with more spellings.

    Args:
        names: in the order of the labels.
        spellings: the class of each other spelling: `{"caidao": "Knife"}`.
        base: the class set to extend.

    Raises:
        ValueError: a name is duplicate or cannot name a column, or a spelling belongs to no class or to two.
    """
    base = ClassSet(tuple(names)) if names else base or ClassSet(())
    lowered = [name.lower() for name in base.all]
    if not base.all or len(set(lowered)) != len(lowered) or not all(_NAME.fullmatch(name) for name in base.all):
        raise ValueError(f"classes must be different names of letters, digits, _ and -, got {list(base.all)}")
    others = {name: list(texts) for name, texts in base.other_spellings.items()}
    for text, name in spellings.items():
        if name not in base.all:
            raise ValueError(f"class map must name one of {list(base.all)}, got {text!r} for {name!r}")
        if base.spellings.get(text.lower(), name) != name:
            raise ValueError(f"class map must not rename a known spelling, got {text!r} for {name!r}")
        others.setdefault(name, []).append(text)
    return ClassSet(base.scored, base.unscored, {name: tuple(texts) for name, texts in others.items()})


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the image as stored, x to the right, y down."""

    class_name: str
    xmin_px: float
    ymin_px: float
    xmax_px: float
    ymax_px: float

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Box":
        """Return the box of a row, as `to_row` has it."""
        return cls(row["class"], *(row[name] for name in BOX_EDGES))

    @property
    def edges_px(self) -> tuple[float, float, float, float]:
        """xmin, ymin, xmax and ymax with the shortest decimals that name their float32, as in `to_row`."""
        left, top, right, bottom = (_as_float32(getattr(self, name)) for name in BOX_EDGES)
        return left, top, right, bottom

    def to_row(self) -> dict[str, Any]:
        """Return the box with float32 coordinates, as in `samples` and `<key>.json`."""
        return {"class": self.class_name, **dict(zip(BOX_EDGES, self.edges_px, strict=True))}


def sample_json(row: dict[str, Any]) -> bytes:
    """Return `<key>.json` for a row of `samples`: labels and boxes for users who have only the tar."""
    boxes = [{"class": box["class"]} | {name: _as_float32(box[name]) for name in BOX_EDGES} for box in row["boxes"]]
    labels_text = _encode_labels(tuple(row["labels"].items()))
    return (
        f'{{"key":{_encode(row["key"])},"width_px":{row["width_px"]},"height_px":{row["height_px"]}'
        f',"labels":{labels_text},"boxes":{_encode(boxes) if boxes else "[]"}}}'
    ).encode()


@lru_cache(maxsize=4096)
def _encode_labels(labels: tuple[tuple[str, int | None], ...]) -> str:
    # A million scans have a few hundred combinations of labels, and encoding them is most of the work.
    return _encode(dict(labels))


def _as_float32(value: float) -> float:
    # The shortest decimal that names the float32: 17.318, not 17.31800079345703.
    return float(str(np.float32(value)))
