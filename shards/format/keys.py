"""Make, check and hash the keys of samples."""

import hashlib
import re
import unicodedata
import urllib.parse
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from shards import storage

MAX_KEY_BYTES = 100 - len(".json")
"""A ustar name field holds 100 bytes."""
_LONG_KEY_DIGITS = 16
_CHINESE = re.compile(r"[\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef\U00020000-\U0003ffff]+")
_SAFE_IN_KEYS = "()+,=@"
_PLAIN_STEM = re.compile(r"[A-Za-z0-9_~()+,=@/-]+")
_UNSAFE_KEY = r"\A\.|[/\\\x00-\x1f\x7f]|\A\z"
# Keyed, so that no choice of file names decides which shard a scan goes to; fixed for format 1.
_HASH_KEY = b"sixray dataset format 1"


def stem_of(file_name: str) -> str:
    """Return a file's name without folders and without its last extension; a backslash separates folders too."""
    name = storage.base_name(file_name.replace("\\", "/"))
    return name.rpartition(".")[0] or name


def encode_key(stem: str) -> str:
    """Return the key of a name: letters, digits and `_-~()+,=@`, all else percent-encoded.

    Names that differ in Unicode's normal form alone have one key, and so have a name in UTF-8 and in GBK. A key that is
    too long for a tar keeps its beginning and ends in `~` and a hash of the whole.
    """
    if _PLAIN_STEM.fullmatch(stem):
        key = stem.replace("/", "%2F")  # fast path: nearly every scan
    else:
        raw = unicodedata.normalize("NFC", _repair_text(stem)).encode("utf-8", errors="surrogateescape")
        key = urllib.parse.quote(raw, safe=_SAFE_IN_KEYS).replace(".", "%2E")
    return shorten_key(key)


def find_unsafe_key(keys: pa.ChunkedArray) -> str | None:
    """Return the first key that as a file name could lead out of a folder; `encode_key` makes none."""
    bad = keys.filter(pc.match_substring_regex(keys, _UNSAFE_KEY))
    return str(bad[0]) if len(bad) else None


def shorten_key(key: str) -> str:
    """Return a key that fits a tar: one that is too long keeps its beginning and ends in `~` and a hash."""
    if len(key) <= MAX_KEY_BYTES:
        return key
    digest = hashlib.blake2b(key.encode(), digest_size=_LONG_KEY_DIGITS // 2).hexdigest()
    start = urllib.parse.unquote_to_bytes(re.sub("%.?$", "", key[: MAX_KEY_BYTES - 1 - _LONG_KEY_DIGITS]))
    readable = urllib.parse.quote(start.decode("utf-8", "ignore"), safe=_SAFE_IN_KEYS).replace(".", "%2E")
    return f"{readable}~{digest}"


def decode_name(raw: bytes) -> str:
    """Return a name in UTF-8 or GBK as text; bytes that are neither are kept as Python keeps those of file names."""
    with suppress(UnicodeDecodeError):
        return raw.decode()
    return decode_chinese(raw) or raw.decode("utf-8", "surrogateescape")


def decode_chinese(raw: bytes) -> str:
    """Return bytes that are clearly GBK as text, else nothing.

    Clearly: all that is not ASCII is Chinese, most of it common (GB 2312). Bytes of a Western encoding are read as rare
    characters, or not at all.
    """
    with suppress(UnicodeDecodeError):
        text = raw.decode("gb18030")
        wide = "".join(char for char in text if not char.isascii())
        num_common = len(wide.encode("gb2312", "ignore")) // 2
        if _CHINESE.fullmatch(wide) and 2 * num_common > len(wide):
            return text
    return ""


def _repair_text(stem: str) -> str:
    try:
        stem.encode()
    except UnicodeEncodeError:  # a file name with bytes that are no UTF-8
        return decode_name(stem.encode("utf-8", "surrogateescape"))
    return stem


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
