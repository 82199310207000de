"""Configure what a conversion does with scans whose sources disagree."""

from dataclasses import dataclass
from typing import Literal, get_args

OnContradiction = Literal["quarantine", "keep-list", "keep-boxes"]
OnUnlisted = Literal["keep", "quarantine", "stop"]
OnMissing = Literal["quarantine", "stop"]
OnUnknownClass = Literal["drop", "quarantine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a conversion does when sources conflict."""

    on_contradiction: OnContradiction = "quarantine"
    """A scan whose lists, folder or boxes contradict each other. `keep-list`: the first list decides, and
    boxes that it denies are dropped; `keep-boxes`: the boxes decide."""
    on_unlisted: OnUnlisted = "keep"
    """An image that no list names: kept in the split `unlisted`, quarantined, or a reason to stop."""
    on_missing: OnMissing = "quarantine"
    """A list's line or an annotation without its image."""
    on_unknown_class: OnUnknownClass = "drop"
    """An object of no known class in an annotation. drop: the object is left out and counted, and without a list
    classes that have no box stay unknown; quarantine: its scan is refused."""
    max_contradiction_fraction: float = 0.05
    """Of the scans with a line and boxes; if more contradict each other, the list belongs to another release."""
    strict_decode: bool = False
    """Decode every image once: one whose data ends early or is damaged within is refused."""
    transcode: bool = False
    """Convert images of other formats to JPEG, instead of keeping PNG and refusing the rest."""
    boxes_are_exhaustive: bool = False
    """A class without a box is absent from a scan that has an annotation and no line in a list."""

    def __post_init__(self) -> None:
        for name, kind in (
            ("on_contradiction", OnContradiction),
            ("on_unlisted", OnUnlisted),
            ("on_missing", OnMissing),
            ("on_unknown_class", OnUnknownClass),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        if not 0 <= self.max_contradiction_fraction <= 1:
            raise ValueError(f"max_contradiction_fraction must be in [0, 1], got {self.max_contradiction_fraction}")
