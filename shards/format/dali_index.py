"""Write the DALI index of a shard."""

from collections.abc import Sequence
from typing import Any

from shards.format.sample_json import sample_json
from shards.format.ustar import BLOCK_BYTES, padding
from shards.images.inspect import Extension

INDEX_VERSION = "v1.2"


def index_line(row: dict[str, Any], extension: Extension = "jpg") -> str:
    """Return the index line of a row: extension, offset, size and name of both components."""
    return join_index_fields(row["key"], extension, row["offset_bytes"], row["size_bytes"], len(sample_json(row)))


def join_index_fields(key: str, extension: Extension, offset: int, image_bytes: int, text_bytes: int) -> str:
    """Return the line of a sample whose image starts at `offset`."""
    text_offset = offset + image_bytes + len(padding(image_bytes)) + BLOCK_BYTES
    return f"{extension} {offset} {image_bytes} {key}.{extension} json {text_offset} {text_bytes} {key}.json"


def join_index(lines: Sequence[str]) -> bytes:
    """Return the index file with the given lines."""
    return "\n".join([f"{INDEX_VERSION} {len(lines)}", *lines, ""]).encode()
