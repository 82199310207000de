"""Read the detections of another program, in COCO's format of results, as scores of scans with their boxes."""

# N scans  D detections  K classes

import json
import math
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from shards import storage
from shards.format.dataset import Dataset
from shards.format.json_lists import scan_list, scan_lists
from shards.format.keys import encode_key, stem_of
from shards.predictions.detections import Detections
from shards.predictions.score_table import ScoreTable, to_logits


@dataclass(slots=True)
class _Listing:
    """The images and categories of a COCO file."""

    url: str
    keys: list[str] = field(default_factory=list)
    row_of: dict[Any, int] = field(default_factory=dict)
    """Place in `keys` by the image's id."""
    names: dict[Any, str] = field(default_factory=dict)
    """Of the categories, by id."""


def read_coco_detections(url: str, dataset: Dataset, images_url: str | None = None) -> ScoreTable:
    """Return the detections in a file, and the scores of the scans: that of a class is its highest detection's.

    A scan that was looked at and has no detection of a class has the score 0 of it. Those looked at are the images that
    the COCO file lists; without one, all scans of the splits that some detection is of.

    Args:
        url: of a list of `image_id`, `category_id`, `bbox` (x, y, width, height in pixels) and `score` in [0, 1], or of
            a COCO file whose annotations have a `score`.
        dataset: whose scans they are of.
        images_url: of the COCO file that has the ids of images and categories; without it an `image_id` is a key or a
            file name and a `category_id` the name of a class.

    Raises:
        ValueError: the file cannot be read; names the element and its value.
    """
    samples = dataset.read_samples(columns=["key", "split"])
    known = set(samples["key"].to_pylist())
    text = storage.read_bytes(url).decode("utf-8-sig")
    is_whole = text.lstrip().startswith("{")
    listing = _read_listing(url if images_url is None else images_url, known) if is_whole or images_url else None
    reader = _Reader(url, dataset.manifest.scored_classes, listing, known)
    try:
        if is_whole:
            scan_lists(text, {"annotations": reader.take})
        else:
            scan_list(text, reader.take)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"detections must be a JSON list, or a COCO file, got {error} ({url})") from error
    keys = reader.keys if listing else reader.keys + _others_of_splits(samples, reader.keys)
    return _make_table(reader, keys, listing)


def _read_listing(url: str, known: Collection[str]) -> _Listing:
    listing = _Listing(url)

    def take_image(item: Any) -> None:
        try:
            number, name = item["id"], str(item["file_name"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"image must have id and file_name, got {item!r} ({url})") from error
        if number in listing.row_of:
            raise ValueError(f"images must have different ids, got {number!r} twice ({url})")
        listing.row_of[number] = len(listing.keys)
        listing.keys.append(_find_key(name, known))

    def take_category(item: Any) -> None:
        try:
            listing.names[item["id"]] = str(item["name"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"category must have id and name, got {item!r} ({url})") from error

    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
        members = scan_lists(text, {"images": take_image, "categories": take_category})
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"images must be in a COCO file, got {error} ({url})") from error
    if lacking := {"images", "categories"} - members:
        raise ValueError(
            f"COCO file must have images and categories, got no {' and no '.join(sorted(lacking))} ({url})"
        )
    return listing


def _find_key(name: str, known: Collection[str]) -> str:
    """Return the key that is a name, or of a scan at a path, which may begin above the corpus; the name if neither."""
    *folders, last = name.replace("\\", "/").split("/")
    paths = ["/".join([*folders[n:], of]) for n in range(len(folders) + 1) for of in (stem_of(last), last)]
    return next((key for path in paths for key in (path, encode_key(path)) if key in known), stem_of(name))


class _Reader:
    """Takes one detection after the other: numbers alone are kept of it."""

    def __init__(self, url: str, classes: Sequence[str], listing: _Listing | None, known: Collection[str]) -> None:
        self.url = url
        self.classes = tuple(classes)
        self._place_of = {name.lower(): place for place, name in enumerate(classes)}
        self._listing, self._known = listing, known
        self.keys: list[str] = listing.keys if listing else []
        self._row_of: dict[Any, int] = listing.row_of if listing else {}
        self._row_of_key: dict[str, int] = {}
        self.other_names: Counter[str] = Counter()
        self._num_taken = 0
        self._rows, self._places, self._scores, self._edges = array("q"), array("q"), array("d"), array("d")

    def take(self, item: Any) -> None:
        """Keep a detection; ValueError says what is wrong with it."""
        self._num_taken += 1
        if not isinstance(item, dict) or not {"image_id", "category_id", "bbox", "score"} <= item.keys():
            raise self._error("detection", "an object with image_id, category_id, bbox and score", item)
        score, box = item["score"], item["bbox"]
        if not (_is_number(score) and 0 <= score <= 1):
            raise self._error("score", "in [0, 1]", score)
        is_box = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
        if not (is_box and box[2] >= 0 and box[3] >= 0):
            raise self._error("bbox", "x, y, width and height in pixels", box)
        row, name = self._find_row(item["image_id"]), self._find_name(item["category_id"])
        place = self._place_of.get(name.lower())
        if place is None:
            self.other_names[name] += 1
            return
        x, y, width, height = box
        self._rows.append(row)
        self._places.append(place)
        self._scores.append(score)
        self._edges.extend((x, y, x + width, y + height))

    def _find_row(self, image_id: Any) -> int:
        if isinstance(image_id, list | dict):
            raise self._error("image_id", "a number or a name", image_id)
        row = self._row_of.get(image_id)
        if row is not None:
            return row
        if self._listing:
            raise self._error("image_id", f"that of an image in {self._listing.url}", image_id)
        if not isinstance(image_id, str):
            raise self._error(
                "image_id", "a key or a file name; or name the file with the images by --images", image_id
            )
        key = _find_key(image_id, self._known)
        row = self._row_of_key.setdefault(key, len(self.keys))
        if row == len(self.keys):
            self.keys.append(key)
        self._row_of[image_id] = row
        return row

    def _find_name(self, category_id: Any) -> str:
        if isinstance(category_id, list | dict):
            raise self._error("category_id", "a number or a name", category_id)
        if self._listing and category_id in self._listing.names:
            return self._listing.names[category_id]
        if self._listing:
            raise self._error("category_id", f"that of a category in {self._listing.url}", category_id)
        if not isinstance(category_id, str):
            raise self._error(
                "category_id", "the name of a class; or name the file with the categories by --images", category_id
            )
        return category_id

    def _error(self, subject: str, expected: str, got: Any) -> ValueError:
        return ValueError(
            f"{subject} must be {expected}, got {repr(got)[:200]} ({self.url} detection {self._num_taken})"
        )

    def detections(self) -> Detections:
        """Return all, by row and falling score; equal scores stay in the order of the file."""
        rows, scores = np.array(self._rows, np.int64), np.array(self._scores, np.float64)
        order = np.lexsort((-scores, rows))
        places, edges = np.array(self._places, np.int64), np.array(self._edges, np.float64).reshape(-1, 4)
        return Detections(self.classes, rows[order], places[order], scores[order], edges[order])

    def names(self) -> set[str]:
        """Return the names, in lower case, of the classes of the model."""
        if self._listing:
            return {name.lower() for name in self._listing.names.values()}
        return {self.classes[place].lower() for place in set(self._places)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _others_of_splits(samples: pa.Table, keys: Sequence[str]) -> list[str]:
    """Return the keys of all other scans of the splits that the given ones are of."""
    given = set(keys)
    pairs = list(zip(*(samples[name].to_pylist() for name in ("key", "split")), strict=True))
    splits = {split for key, split in pairs if key in given}
    return [key for key, split in pairs if split in splits and key not in given]


def _make_table(reader: _Reader, keys: Sequence[str], listing: _Listing | None) -> ScoreTable:
    names = reader.names()
    absent = tuple(name for name in reader.classes if name.lower() not in names)
    if len(absent) == len(reader.classes):
        others: Mapping[Any, str] | Counter[str] = listing.names if listing else reader.other_names
        got = ", ".join(list(others.values() if listing else others)[:20]) or "none"  # type: ignore[arg-type]
        raise ValueError(f"categories must be some of {', '.join(reader.classes)}, got {got} ({reader.url})")
    found = reader.detections()
    peaks_NK3 = found.find_peaks(len(keys))
    scores_NK = np.nan_to_num(peaks_NK3[:, :, 2], nan=0.0)
    scores_NK[:, [name in absent for name in reader.classes]] = np.nan
    return ScoreTable(
        keys_N=pa.array(keys, pa.string()),
        logits_NK=to_logits(scores_NK),
        problems={},
        absent_classes=absent,
        unused_columns=tuple(reader.other_names),
        bad_lines=(),
        detections=found,
        peaks_NK3=peaks_NK3,
    )
