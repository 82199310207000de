"""Merkle trees: one hash that stands for many texts, and proofs that a text is one of them.

Source: RFC 6962, section 2.1: a leaf is sha256(0x00 + text), an inner node sha256(0x01 + left + right).
"""

import hashlib
from collections.abc import Iterable, Sequence

Step = tuple[str, str]
"""`left` or `right`: where the neighbour stands; its hash in hex."""


def tree_root(texts: Iterable[str]) -> str:
    """Return the root over texts in their order, in hex; of none: the sha256 of nothing."""
    hashes = [_leaf(text) for text in texts]
    while len(hashes) > 1:
        hashes = _parents(hashes)
    return hashes[0].hex() if hashes else hashlib.sha256().hexdigest()


def prove(texts: Sequence[str], index: int) -> list[Step]:
    """Return the neighbours on the way from one text to the root, from the leaf up."""
    hashes, path = [_leaf(text) for text in texts], []
    while len(hashes) > 1:
        neighbour = index ^ 1
        if neighbour < len(hashes):
            path.append(("left" if neighbour < index else "right", hashes[neighbour].hex()))
        hashes, index = _parents(hashes), index // 2
    return path


def follow(text: str, path: Iterable[Step]) -> str:
    """Return the root that a text and its path lead to, in hex."""
    found = _leaf(text)
    for side, neighbour in path:
        pair = (bytes.fromhex(neighbour), found) if side == "left" else (found, bytes.fromhex(neighbour))
        found = _node(*pair)
    return found.hex()


def _parents(hashes: Sequence[bytes]) -> list[bytes]:
    parents = [_node(*hashes[at : at + 2]) for at in range(0, len(hashes) - 1, 2)]
    return [*parents, hashes[-1]] if len(hashes) % 2 else parents


def _leaf(text: str) -> bytes:
    return hashlib.sha256(b"\0" + text.encode()).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
