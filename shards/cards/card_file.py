"""Write a card, README.md: front matter that hubs read, then text; never over a card that somebody has edited."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from shards import storage

CARD_NAME = "README.md"
_SEAL = re.compile(r"\n<!-- written by sixray card; sha256 of the rest: ([0-9a-f]{64}) -->\n")


def make_card(front_matter: Mapping[str, Any], text: str) -> bytes:
    """Return a card; its seal tells later whether it is as it was written."""
    front = yaml.safe_dump(dict(front_matter), sort_keys=False, allow_unicode=True, width=1000)
    head, rest = f"---\n{front}---\n", f"\n{text.strip()}\n"
    return f"{head}\n<!-- written by sixray card; sha256 of the rest: {_digest(head, rest)} -->\n{rest}".encode()


def check_replaceable(folder: str, names: Iterable[str]) -> None:
    """Check that files may be written into a folder: none is there, or all are of a card that nobody has edited.

    Raises:
        ValueError: a file is in the way.
    """
    existing = [name for name in names if storage.exists(storage.join_url(folder, name))]
    if existing and not _is_as_written(storage.join_url(folder, CARD_NAME)):
        raise ValueError(
            f"output must hold no other {existing[0]} than one that `sixray card` wrote and nobody edited, got one "
            f"({folder}); name another --output, or move the file away"
        )


def format_table(header: Sequence[str], rows: Iterable[Sequence[object]], num_texts: int = 1) -> str:
    """Return a Markdown table; all columns but the first `num_texts` are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "---|" * num_texts + "---:|" * (len(header) - num_texts))
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _is_as_written(url: str) -> bool:
    if not storage.exists(url):
        return False
    text = storage.read_bytes(url).decode(errors="replace")
    seal = _SEAL.search(text)
    return seal is not None and seal[1] == _digest(text[: seal.start()], text[seal.end() :])


def _digest(head: str, rest: str) -> str:
    return hashlib.sha256((head + rest).encode()).hexdigest()
