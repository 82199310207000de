"""Where in a folder of scans are the images, annotations and lists, and what key does an image get?"""

import hashlib
import re
import urllib.parse
from dataclasses import dataclass
from typing import Literal

from shards import storage
from shards.tar import MAX_KEY_BYTES

LAYOUTS = ("auto", "sixray", "images")
SUBSETS = ("all", "positives", "10", "100", "1000")
LISTS_IN_ORDER = ("10", "100", "1000")
"""The order in which `--subset all` asks the release's lists for a scan's split and labels: the first that names it
decides. SIXray10's positives and negatives are all in SIXray100; SIXray1000 draws its own positives."""

_IMAGE_FOLDERS = ("JPEGImage", "JPEGImages")
_ANNOTATION_FOLDERS = ("Annotation", "Annotations")
_LIST_FOLDER = "ImageSet"
_SAFE_IN_KEYS = "()+,=@"
# Keyed so that nobody's choice of file names decides where scans lie; fixed for format 1.
_HASH_KEY = b"sixray dataset format 1"


@dataclass(frozen=True, slots=True)
class ListFile:
    """One list of the release."""

    url: str
    subset: Literal["10", "100", "1000"]
    split: Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where a corpus keeps what."""

    layout: Literal["sixray", "images"]
    images_url: str
    annotations_url: str | None
    lists: tuple[ListFile, ...]


def find_corpus(url: str, layout: str, subset: str) -> Corpus:
    """Find the parts of a corpus.

    `auto` takes a folder with `ImageSet` or an annotation folder beside an image folder for the SIXray layout, any
    other for plain images without labels.

    Raises:
        ValueError: the folder is missing, or a part that the layout or subset needs is.
    """
    root = storage.normalise_url(url)
    if not storage.is_folder(root):
        raise ValueError(f"corpus must be a folder, got none there ({root})")
    images = _first_folder(root, _IMAGE_FOLDERS)
    annotations = _first_folder(root, _ANNOTATION_FOLDERS)
    lists = _find_lists(root, subset)
    if layout == "images" or (layout == "auto" and (images is None or (annotations is None and not lists))):
        if subset != "all":
            raise ValueError(f"subset must be 'all' for a corpus without lists, got {subset!r} ({root})")
        return Corpus("images", root, None, ())
    if images is None:
        raise ValueError(f"SIXray corpus must have a folder {' or '.join(_IMAGE_FOLDERS)}, got none ({root})")
    if subset != "all" and len(lists) < 2:
        where = storage.join_url(root, _LIST_FOLDER, "10" if subset == "positives" else subset)
        found = ", ".join(storage.base_name(item.url) for item in lists) or "none"
        raise ValueError(f"subset {subset!r} must have lists train.csv and test.csv, got {found} ({where})")
    return Corpus("sixray", images, annotations, lists)


def _first_folder(root: str, names: tuple[str, ...]) -> str | None:
    return next((url for url in (storage.join_url(root, name) for name in names) if storage.is_folder(url)), None)


def _find_lists(root: str, subset: str) -> tuple[ListFile, ...]:
    wanted = {"all": LISTS_IN_ORDER, "positives": ("10",)}.get(subset, (subset,))
    found = [
        ListFile(storage.join_url(root, _LIST_FOLDER, name, f"{split}.csv"), name, split)  # type: ignore[arg-type]
        for name in wanted
        for split in ("train", "test")
    ]
    return tuple(item for item in found if storage.exists(item.url))


def stem_of(file_name: str) -> str:
    """Return a file's name without folders and without its last extension."""
    name = storage.base_name(file_name)
    return name.rpartition(".")[0] or name


def make_key(corpus: Corpus, image_url: str) -> str:
    """Return the key of an image: letters, digits and `_-~()+,=@%` alone.

    In the SIXray layout the stem of the file; in a folder of images the path below the root, so that files of one
    name in two folders stay apart. Every other character is percent-encoded (`.` is `%2E`), so that webdataset, which
    ends a key at the first dot, and DALI's index, whose fields end at spaces, read what was meant.
    """
    if corpus.layout == "sixray":
        return encode_key(stem_of(image_url))
    below = image_url.removeprefix(corpus.images_url).lstrip("/")
    folder, _, name = below.rpartition("/")
    return encode_key(f"{folder}/{stem_of(name)}" if folder else stem_of(name))


def encode_key(stem: str) -> str:
    """Return `stem` with all but letters, digits and `_-~()+,=@` percent-encoded."""
    raw = stem.encode("utf-8", errors="surrogateescape")
    return urllib.parse.quote(raw, safe=_SAFE_IN_KEYS).replace(".", "%2E")


def key_problem(key: str) -> str:
    """Say why a key cannot name a member of a tar; empty where it can."""
    if len(key) > MAX_KEY_BYTES:
        return f"a key must have at most {MAX_KEY_BYTES} bytes, got {len(key)}"
    return ""


def hash_key(key: str) -> int:
    """Return a keyed 64-bit hash: it alone decides a sample's shard and its place there."""
    return int.from_bytes(hashlib.blake2b(key.encode(), key=_HASH_KEY, digest_size=8).digest(), "big")


def place_in(key_hash: int, num_parts: int) -> int:
    """Return which of `num_parts` equal ranges of hashes holds `key_hash`."""
    return key_hash * num_parts >> 64


def printable(text: str) -> str:
    """Return `text` fit for a table or a terminal: control characters and stray bytes are escaped."""
    escaped = text.encode("utf-8", errors="backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match.group()):02x}", escaped)
