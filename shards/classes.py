"""Which prohibited items does a corpus name, and which of them are scored?"""

import json
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True, slots=True)
class ClassSet:
    """The classes of a corpus, in the order of its lists."""

    scored: tuple[str, ...]
    """Classes that networks learn and reports rate; the columns of the corpus' lists."""
    unscored: tuple[str, ...] = ()
    """Classes that only boxes name (Hammer: 60 scans, left out of the papers' experiments)."""
    other_spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Spellings of a class seen in annotations beside its name; case never counts."""

    @property
    def all(self) -> tuple[str, ...]:
        """Scored classes, then unscored ones: the fields of a sample's labels."""
        return self.scored + self.unscored

    @property
    def spellings(self) -> dict[str, str]:
        """The class of each known spelling, spellings in lower case."""
        own = {name.lower(): name for name in self.all}
        return own | {text.lower(): name for name, texts in self.other_spellings.items() for text in texts}


def load_class_set(name: str) -> ClassSet:
    """Return the class set called `name` in `classes.json`; ValueError names the known ones otherwise."""
    table = json.loads(resources.files("shards").joinpath("classes.json").read_text())
    if name not in table:
        raise ValueError(f"class set must be one of {sorted(table)}, got {name!r}")
    entry = table[name]
    other_spellings = {class_name: tuple(texts) for class_name, texts in entry["spellings"].items()}
    return ClassSet(tuple(entry["scored"]), tuple(entry["unscored"]), other_spellings)
