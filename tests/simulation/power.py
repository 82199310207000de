"""A disk that loses power: what was not synced may be lost, torn or reordered.

`PowerCuts` takes the place of `shards.storage.disk`. It makes every change in a real folder, and keeps beside it what a
disk would hold: the content of a file counts from its sync on, a name from the sync of its folder on. At a cut it
writes into the folder what is left, chosen at random from all that a file system may keep:

- content that was not synced: nothing, a part, zeros, or all of it;
- names that were not synced: those up to some moment, as a journal keeps them, or any of them, as without one.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from shards import storage
from shards.storage import disk

_OPERATIONS = (
    "create_file", "sync_file", "rename_file", "remove_file", "remove_tree", "make_folder", "sync_folder"
)  # fmt: skip


class PowerCut(BaseException):
    """The machine is off."""


@dataclass(slots=True)
class _File:
    """A file's content as a disk would hold it."""

    synced: bytes | None = None
    unsynced: bytes = b""


@dataclass(slots=True)
class _Folder:
    """A folder's names as a disk would hold them, and the changes since its last sync."""

    names: "dict[str, _File | _Folder]" = field(default_factory=dict)
    pending: "list[dict[str, _File | _Folder | None]]" = field(default_factory=list)
    """Each change: what names stand for from then on, None for a name that is gone."""

    def now(self) -> "dict[str, _File | _Folder]":
        """Return the names as a running program sees them."""
        return _apply(self.names, self.pending)


def _apply(names: "dict[str, Any]", changes: "list[dict[str, Any]]") -> "dict[str, Any]":
    found = dict(names)
    for change in changes:
        for name, what in change.items():
            found.pop(name, None)
            if what is not None:
                found[name] = what
    return found


class PowerCuts:
    """Runs jobs on a folder whose power may be cut before any change of the disk."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.trace: list[str] = []
        """The changes of the last life."""
        self.num_lost = dict.fromkeys(("content", "names"), 0)
        self._random = random.Random(seed)
        self._tree = _read_tree(root)
        self._cut_at: int | None = None
        self.is_off = False
        """Whether the power was cut: a job may say so by another error, or by an exit code."""

    @contextmanager
    def power(self, cut_at: int | None = None) -> Iterator[None]:
        """Let the block run until its change number `cut_at`, from 0, which is not made; None: to its end."""
        self.trace, self._cut_at, self.is_off = [], cut_at, False
        real = {name: getattr(disk, name) for name in _OPERATIONS}
        self._real = real
        for name in _OPERATIONS:
            setattr(disk, name, getattr(self, f"_{name}"))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(disk, name, function)

    def lose(self) -> None:
        """Leave in the folder what a disk may hold after a power cut now."""
        self._collect_unsynced(self.root, self._tree)
        kept = self._choose(self._tree)
        shutil.rmtree(self.root)
        _write_tree(self.root, kept)
        self._tree = _read_tree(self.root)

    def _collect_unsynced(self, path: Path, folder: _Folder) -> None:
        for name, what in folder.now().items():
            if isinstance(what, _Folder):
                self._collect_unsynced(path / name, what)
            elif what.synced is None and (path / name).exists():
                what.unsynced = (path / name).read_bytes()

    def _choose(self, folder: _Folder) -> dict[str, Any]:
        pending = folder.pending
        if self._random.random() < 0.6:
            taken = pending[: self._random.randint(0, len(pending))]
        else:
            taken = [change for change in pending if self._random.random() < 0.5]
        self.num_lost["names"] += len(pending) - len(taken)
        return {
            _of_ended_process(name): self._choose(what) if isinstance(what, _Folder) else self._content(what)
            for name, what in _apply(folder.names, taken).items()
        }

    def _content(self, file: _File) -> bytes:
        if file.synced is not None:
            return file.synced
        size = self._random.randint(0, len(file.unsynced))
        found = self._random.choice([b"", file.unsynced[:size], bytes(size), file.unsynced])
        self.num_lost["content"] += found != file.unsynced
        return found

    def _tick(self, what: str) -> None:
        if self.is_off or len(self.trace) == self._cut_at:
            self.is_off = True
            raise PowerCut
        self.trace.append(what)

    def _folder(self, path: Path) -> _Folder | None:
        """Return a folder below the root; None if it lies elsewhere, on a disk of its own."""
        if not path.is_relative_to(self.root):
            return None
        folder = self._tree
        for name in path.relative_to(self.root).parts:
            found = folder.now()[name]
            assert isinstance(found, _Folder), path
            folder = found
        return folder

    def _change(self, path: Path, change: "dict[str, _File | _Folder | None]") -> None:
        folder = self._folder(path)
        if folder is not None:
            folder.pending.append(change)

    def _create_file(self, path: Path) -> IO[bytes]:
        self._tick(f"create {path.name}")
        handle: IO[bytes] = self._real["create_file"](path)
        self._change(path.parent, {path.name: _File()})
        return handle

    def _sync_file(self, handle: IO[bytes]) -> None:
        self._tick(f"sync {Path(handle.name).name}")
        handle.flush()
        path = Path(handle.name)
        folder = self._folder(path.parent)
        if folder is not None:
            file = folder.now()[path.name]
            assert isinstance(file, _File)
            file.synced = path.read_bytes()

    def _rename_file(self, source: Path, target: Path) -> None:
        self._tick(f"rename to {target.name}")
        folder = self._folder(source.parent)
        file = None if folder is None else folder.now()[source.name]
        self._real["rename_file"](source, target)
        self._change(source.parent, {source.name: None, target.name: file})

    def _remove_file(self, path: Path) -> None:
        self._tick(f"remove {path.name}")
        self._real["remove_file"](path)
        self._change(path.parent, {path.name: None})

    def _remove_tree(self, path: Path) -> None:
        self._tick(f"remove tree {path.name}")
        folder = self._folder(path.parent)
        inner = None if folder is None else folder.now().get(path.name)
        self._real["remove_tree"](path)
        while isinstance(inner, _Folder) and self._random.random() < 0.5 and (names := sorted(inner.now())):
            inner.pending.append({self._random.choice(names): None})  # a part of it is gone before its name
        self._change(path.parent, {path.name: None})

    def _make_folder(self, path: Path) -> None:
        self._tick(f"make {path.name}")
        existed = path.is_dir()
        self._real["make_folder"](path)
        if not existed:
            self._change(path.parent, {path.name: _Folder()})

    def _sync_folder(self, path: Path) -> None:
        self._tick(f"sync folder {path.name}")
        folder = self._folder(path)
        if folder is not None:
            folder.names, folder.pending = folder.now(), []


def _of_ended_process(name: str) -> str:
    """Return the name of a temporary file as if another process, which the cut has ended, had made it."""
    host, _, number = storage.this_process().partition(".")
    return name.replace(f"{host}.{number}", f"{host}.{number.partition('-')[0]}-1")


def _read_tree(path: Path) -> _Folder:
    names = {each.name: _read_tree(each) if each.is_dir() else _File(each.read_bytes()) for each in path.iterdir()}
    return _Folder(names)


def _write_tree(path: Path, tree: dict[str, Any]) -> None:
    path.mkdir()
    for name, what in tree.items():
        if isinstance(what, dict):
            _write_tree(path / name, what)
        else:
            (path / name).write_bytes(what)
