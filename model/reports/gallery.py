"""Collect the worst misses and false alarms of each class at its alarm threshold, with their pictures."""

# N scans  B boxes

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.evaluation.scans.scored_scans import ScoredScans
from model.metrics.operating_points import sigmoid
from shards.format.classes import ABSENT, PRESENT
from shards.format.dataset import Dataset
from shards.format.shard_reader import ScanRow, find_rows, read_image_of_row
from shards.images.decode import decode_image

NUM_EXAMPLES = 6
"""Misses, and as many false alarms, of each class."""
LARGE_PX, SMALL_PX = 720, 320
"""Longest side of a picture: it opens to fill a screen, or, of many pictures, fills its card twice."""
MAX_LARGE = 60
"""With more pictures each is small: five classes have at most 60, the twenty that many classes show 240."""
MAX_TOTAL_BYTES = 3_000_000
"""Of all pictures together: with base64's third and the charts a page stays below 5 MB."""

Edges = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A miss or a false alarm of a class."""

    key: str
    score: float
    """sigmoid(logit) of the class."""
    num_before: int
    """For a miss, scans without the item that score higher; for a false alarm, scans with it that score lower."""
    width_px: int
    height_px: int
    peak_px: tuple[float, float] | None
    """x and y where the class' heatmap is highest; None for predictions without peaks."""
    own_boxes: tuple[Edges, ...]
    """Boxes of the class: xmin, ymin, xmax, ymax in pixels."""
    other_boxes: tuple[Edges, ...]
    present: tuple[str, ...]
    """Classes that the labels name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassGallery:
    """Examples of one class, worst first."""

    misses: tuple[Example, ...]
    false_alarms: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Examples of every class, and their thumbnails."""

    classes: dict[str, ClassGallery]
    pictures: dict[str, bytes] = field(default_factory=dict)
    """JPEG by key."""
    problems: dict[str, str] = field(default_factory=dict)
    """Reason by key why there is no picture."""

    @property
    def has_examples(self) -> bool:
        """Whether any class has a miss or a false alarm."""
        return any(of.misses or of.false_alarms for of in self.classes.values())

    @property
    def has_peaks(self) -> bool:
        """Whether the predictions say where an item was seen."""
        examples = (example for of in self.classes.values() for example in (*of.misses, *of.false_alarms))
        return any(example.peak_px for example in examples)


def collect_gallery(
    scans: ScoredScans, dataset: Dataset, thresholds: Mapping[str, float], num_examples: int = NUM_EXAMPLES
) -> Gallery:
    """Return the worst misses and false alarms, one a bag, with their pictures, read by offset from the shards.

    Pictures that cannot be read are listed in `problems`; the figures do not depend on them.

    Args:
        scans: of one split.
        dataset: with their pictures.
        thresholds: logit from which on each class to show raises an alarm; NEVER: it does not.
        num_examples: misses, and as many false alarms, of each class.
    """
    classes = {
        name: _pick(scans, scans.classes.index(name), threshold, num_examples) for name, threshold in thresholds.items()
    }
    keys = [example.key for of in classes.values() for example in (*of.misses, *of.false_alarms)]
    pictures, problems = read_pictures(find_rows(dataset, keys, scans.split), list(dict.fromkeys(keys)))
    return Gallery(classes, pictures, problems)


def read_pictures(
    places: Mapping[str, tuple[str, ScanRow]],
    keys: Sequence[str],
    side_px: int | None = None,
    max_total_bytes: int | None = None,
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return a JPEG for each key, and the reason where there is none, in the order of `keys`.

    Args:
        places: tar and row of the scans, of `find_rows`.
        keys: of the scans.
        side_px: the longest of a picture; None: by their number.
        max_total_bytes: of all of them, by default MAX_TOTAL_BYTES; further ones are left out.
    """
    pictures: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    total_bytes, side_px = 0, side_px or (LARGE_PX if len(keys) <= MAX_LARGE else SMALL_PX)
    for key in keys:
        try:
            picture = shrink_picture(read_image_of_row(*places[key]), side_px)
        except (OSError, ValueError) as error:
            problems[key] = str(error)
            continue
        total_bytes += len(picture)
        if total_bytes > (max_total_bytes or MAX_TOTAL_BYTES):
            problems[key] = "left out to keep the page small"
        else:
            pictures[key] = picture
    return pictures, problems


def shrink_picture(image: bytes, side_px: int) -> bytes:
    """Return a JPEG of at most `side_px` a side; OSError or ValueError where `image` is none."""
    small = decode_image(image, draft_px=side_px).convert("RGB")
    small.thumbnail((side_px, side_px))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=72, optimize=True)
    return out.getvalue()


def describe_example(scans: ScoredScans, k: int, n: int, num_before: int) -> Example:
    """Return what is drawn and said of scan `n` and class `k`."""
    first, last = np.searchsorted(scans.box_scan_B, [n, n + 1])
    edges = [tuple(map(float, row)) for row in scans.box_edges_B4[first:last]]
    own = scans.box_class_B[first:last] == k
    x_px, y_px = scans.peaks_NK2[n, k]
    return Example(
        key=scans.keys_N[n].as_py(),
        score=float(sigmoid(scans.logits_NK[n, k])),
        num_before=num_before,
        width_px=int(scans.sizes_N2[n, 0]),
        height_px=int(scans.sizes_N2[n, 1]),
        peak_px=(float(x_px), float(y_px)) if np.isfinite(x_px) else None,
        own_boxes=tuple(box for box, is_own in zip(edges, own, strict=True) if is_own),  # type: ignore[misc]
        other_boxes=tuple(box for box, is_own in zip(edges, own, strict=True) if not is_own),  # type: ignore[misc]
        present=tuple(name for j, name in enumerate(scans.classes) if scans.labels_NK[n, j] == PRESENT),
    )


def _pick(scans: ScoredScans, k: int, threshold: float, num_examples: int) -> ClassGallery:
    logits_N, labels_N = scans.column(k)
    positive_N, negative_N = np.flatnonzero(labels_N == PRESENT), np.flatnonzero(labels_N == ABSENT)
    missed_N, alarmed_N = positive_N[logits_N[positive_N] < threshold], negative_N[logits_N[negative_N] >= threshold]
    lowest = _first_of_groups(missed_N[np.argsort(logits_N[missed_N], kind="stable")], scans, num_examples)
    highest = _first_of_groups(alarmed_N[np.argsort(-logits_N[alarmed_N], kind="stable")], scans, num_examples)
    return ClassGallery(
        misses=tuple(describe_example(scans, k, n, int((logits_N[negative_N] > logits_N[n]).sum())) for n in lowest),
        false_alarms=tuple(
            describe_example(scans, k, n, int((logits_N[positive_N] < logits_N[n]).sum())) for n in highest
        ),
    )


def _first_of_groups(order: npt.NDArray[np.int64], scans: ScoredScans, num_examples: int) -> list[int]:
    # Otherwise one bag, scanned again and again, would fill the gallery.
    chosen: dict[int, int] = {}
    for n in order:
        if len(chosen) == num_examples:
            break
        chosen.setdefault(int(scans.groups_N[n]), int(n))
    return list(chosen.values())


def list_gallery_warnings(gallery: Gallery | None) -> list[str]:
    """Return a warning if pictures of the gallery could not be read."""
    if gallery is None or not gallery.problems:
        return []
    key, reason = next(iter(gallery.problems.items()))
    pictures = "1 picture" if len(gallery.problems) == 1 else f"{len(gallery.problems)} pictures"
    return [f"{pictures} of the gallery could not be shown, first {key}: {reason}. The figures do not depend on them."]
