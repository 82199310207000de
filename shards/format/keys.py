"""Make, check and hash the keys of samples."""

import hashlib
import re
import urllib.parse

from shards import storage

MAX_KEY_BYTES = 100 - len(".json")
"""A ustar name field holds 100 bytes."""
_SAFE_IN_KEYS = "()+,=@"
_PLAIN_STEM = re.compile(r"[A-Za-z0-9_~()+,=@/-]+")
# Keyed, so that no choice of file names decides which shard a scan goes to; fixed for format 1.
_HASH_KEY = b"sixray dataset format 1"


def stem_of(file_name: str) -> str:
    """Return a file's name without folders and without its last extension."""
    name = storage.base_name(file_name)
    return name.rpartition(".")[0] or name


def encode_key(stem: str) -> str:
    """Return `stem` with all but letters, digits and `_-~()+,=@` percent-encoded."""
    if _PLAIN_STEM.fullmatch(stem):
        return stem.replace("/", "%2F")  # fast path: nearly every scan
    raw = stem.encode("utf-8", errors="surrogateescape")
    return urllib.parse.quote(raw, safe=_SAFE_IN_KEYS).replace(".", "%2E")


def key_problem(key: str) -> str:
    """Return why a key cannot name a member of a tar, empty if it can."""
    if len(key) > MAX_KEY_BYTES:
        return f"a key must have at most {MAX_KEY_BYTES} bytes, got {len(key)}"
    return ""


def hash_key(key: str) -> int:
    """Return the keyed 64-bit hash that decides a sample's shard and its place in it."""
    return int.from_bytes(hashlib.blake2b(key.encode(), key=_HASH_KEY, digest_size=8).digest(), "big")


def place_in(key_hash: int, num_parts: int) -> int:
    """Return which of `num_parts` equal hash ranges contains `key_hash`."""
    return key_hash * num_parts >> 64


def escape_control_characters(text: str) -> str:
    """Return `text` with control characters and stray bytes escaped, for tables and terminals."""
    if text.isascii() and text.isprintable():
        return text  # fast path: nearly every scan
    escaped = text.encode("utf-8", errors="backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match.group()):02x}", escaped)
