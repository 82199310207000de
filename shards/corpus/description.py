"""What are the parts of a corpus called, and what key does an image get?"""

import hashlib
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Literal

from shards import storage
from shards.format.tar import MAX_KEY_BYTES

LAYOUTS = ("auto", "sixray", "opixray", "voc", "imagefolder", "images")
SUBSETS = ("all", "positives", "10", "100", "1000")
LISTS_IN_ORDER = ("10", "100", "1000")
"""The order in which `--subset all` asks the release's lists for a scan's split and labels: the first that names it
decides. SIXray10's positives and negatives are all in SIXray100; SIXray1000 draws its own positives."""

Layout = Literal["sixray", "opixray", "voc", "imagefolder", "images"]
Presence = Literal["", "positive", "negative"]

_SAFE_IN_KEYS = "()+,=@"
_PLAIN_STEM = re.compile(r"[A-Za-z0-9_~()+,=@/-]+")
# Keyed so that nobody's choice of file names decides where scans lie; fixed for format 1.
_HASH_KEY = b"sixray dataset format 1"


@dataclass(frozen=True, slots=True)
class ListFile:
    """One list: the names of a split's scans, with or without their labels."""

    url: str
    """The file, or the zip that holds it."""
    subset: str
    """10, 100 or 1000; empty for a list that belongs to none of the three."""
    split: str
    member: str = ""
    """Its name within the zip; empty for a file."""
    has_labels: bool = True
    """A VOC list has a name a line, and no more."""

    @property
    def uri(self) -> str:
        """How messages and rows name it."""
        return f"zip://{self.member}::{storage.as_uri(self.url)}" if self.member else self.url


@dataclass(frozen=True, slots=True)
class Source:
    """A place with images, or with annotations."""

    kind: Literal["images", "annotations"]
    url: str
    """A folder, a zip, or the first file of a tar."""
    form: Literal["folder", "files", "zip", "tar"] = "folder"
    """`files` are those right in the folder; a `folder` is taken with all below it."""
    parts: tuple[str, ...] = ()
    """All files of a tar that was split, in order."""
    split: str = ""
    """What the folder says of its scans' split, where no list does."""
    presence: Presence = ""
    """What the folder says of prohibited items in its scans, where no list does."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where a corpus keeps what."""

    layout: Layout
    url: str
    sources: tuple[Source, ...]
    lists: tuple[ListFile, ...] = ()
    builds_subset: bool = False
    """No list says who belongs to the subset that is asked for: see `shards.curation.subsets`."""
    why: str = field(default="", compare=False)
    """What was found, in words for people."""
    class_folders: tuple[str, ...] = ()
    """The names of the folders that images of one class lie in, in order; empty where folders are no classes."""


def stem_of(file_name: str) -> str:
    """Return a file's name without folders and without its last extension."""
    name = storage.base_name(file_name)
    return name.rpartition(".")[0] or name


def make_key(layout: Layout, path: str) -> str:
    """Return the key of an image: letters, digits and `_-~()+,=@%` alone.

    The stem of the file; in a folder of plain images or of classes the whole path, so that files of one name in two
    folders stay apart. Every other character is percent-encoded (`.` is `%2E`), so that webdataset, which ends a key
    at the first dot, and DALI's index, whose fields end at spaces, read what was meant.

    Args:
        layout: of the corpus.
        path: of the file below its source.
    """
    folder, _, name = path.strip("/").rpartition("/")
    return encode_key(f"{folder}/{stem_of(name)}" if folder and layout in ("images", "imagefolder") else stem_of(name))


def encode_key(stem: str) -> str:
    """Return `stem` with all but letters, digits and `_-~()+,=@` percent-encoded."""
    if _PLAIN_STEM.fullmatch(stem):
        return stem.replace("/", "%2F")  # the case of nearly every scan
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
    if text.isascii() and text.isprintable():
        return text  # the case of nearly every scan
    escaped = text.encode("utf-8", errors="backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match.group()):02x}", escaped)
