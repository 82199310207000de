"""What is done with a scan whose sources disagree? Every rule is a choice of the user's, with a cautious default."""

from dataclasses import dataclass
from typing import Literal, get_args

OnContradiction = Literal["quarantine", "keep-list", "keep-boxes"]
OnUnlisted = Literal["keep", "quarantine", "stop"]
OnMissing = Literal["quarantine", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a conversion does where the corpus is not of one mind."""

    on_contradiction: OnContradiction = "quarantine"
    """A scan of which its lists, its folder or its boxes say different things. `keep-list`: the first list decides, and
    boxes that it denies are left out; `keep-boxes`: the boxes decide."""
    on_unlisted: OnUnlisted = "keep"
    """An image that no list names: kept in the split `unlisted`, refused, or a reason to stop."""
    on_missing: OnMissing = "quarantine"
    """A list's line or an annotation without its image."""
    max_contradiction_fraction: float = 0.05
    """Of the scans that have a line and boxes; more of them disagree only where the list belongs to another release."""
    transcode: bool = False
    """Pictures of other formats become JPEG, rather than staying PNG or being refused."""
    boxes_are_exhaustive: bool = False
    """A class without a box is absent from a scan that has an annotation and no line in a list."""

    def __post_init__(self) -> None:
        for name, kind in (
            ("on_contradiction", OnContradiction),
            ("on_unlisted", OnUnlisted),
            ("on_missing", OnMissing),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        if not 0 <= self.max_contradiction_fraction <= 1:
            raise ValueError(f"max_contradiction_fraction must be in [0, 1], got {self.max_contradiction_fraction}")
