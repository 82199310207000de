"""An object store whose requests fail as those of real ones do, chosen by a seed: `simulated://bucket/key`.

What a store may do without breaking what is promised of S3 and Google Cloud Storage since they are strongly consistent:

- `killed`: the job ends before or after a request took effect;
- `throttled`: the request is refused ("503 Slow Down");
- `unanswered`: it took effect, and its answer was lost;
- `twice`: the client sent it again, and both took effect;
- `broken_read`: the connection ended within a read.

Through these a job ends with the bytes of an undisturbed run. What no store should do, and some did:

- `lost`: a PUT is confirmed, and there is no object;
- `late`: an object is read and not yet listed.

These are noticed by reading back alone: a job then ends whole or is refused, and `sixray verify` names what is missing;
run again it is made.
"""

import errno
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

HONEST = ("killed", "throttled", "unanswered", "twice", "broken_read")
DISHONEST = ("lost", "late")


class JobKilledError(BaseException):
    """The process has ended."""


class Store:
    """The objects, and what befalls the requests."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.trace: list[str] = []
        self.faults: Counter[str] = Counter()
        self._random = random.Random(0)
        self._kinds: tuple[str, ...] = ()
        self._share = 0.0
        self._unlisted: set[str] = set()

    @contextmanager
    def trouble(self, seed: int, kinds: tuple[str, ...], share: float) -> Iterator[None]:
        """Let a share of the requests of the block go wrong, in some ways, by a seed."""
        self._random, self._kinds, self._share, self.trace = random.Random(seed), kinds, share, []
        try:
            yield
        finally:
            self._kinds, self._unlisted = (), set()

    def draw(self, verb: str, path: str) -> str:
        """Return what befalls a request; raise what ends it before it takes effect."""
        kinds = [kind for kind in self._kinds if kind in _KINDS_OF[verb]]
        kind = self._random.choice(kinds) if kinds and self._random.random() < self._share else ""
        self.trace.append(f"{verb} {path} {kind}".rstrip())
        self.faults[kind or "none"] += 1
        if kind == "throttled":
            raise OSError(errno.EBUSY, "503 Slow Down")
        if kind == "killed" and self._random.random() < 0.5:
            raise JobKilledError
        return kind

    def change(self, verb: str, path: str, data: bytes | None) -> None:
        """Put an object, or remove it."""
        kind = self.draw(verb, path)
        if kind == "lost":
            return
        for _ in range(2 if kind == "twice" else 1):
            if data is None:
                self.objects.pop(path, None)
            else:
                self.objects[path] = data
        if kind == "late":
            self._unlisted.add(path)
        if kind == "unanswered":
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
        if kind == "killed":
            raise JobKilledError

    def read(self, path: str) -> bytes:
        """Return an object."""
        kind = self.draw("get", path)
        if kind == "killed":
            raise JobKilledError
        if kind == "broken_read":
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
        return self.look_up(path)

    def look_up(self, path: str) -> bytes:
        """Return an object without a request; FileNotFoundError if there is none."""
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def list(self, folder: str) -> list[tuple[str, int]]:
        """Return path and size of the objects below a folder."""
        if self.draw("list", folder) == "killed":
            raise JobKilledError
        listed = sorted(self.objects.items())
        return [(p, len(data)) for p, data in listed if p.startswith(f"{folder}/") and p not in self._unlisted]


_KINDS_OF = {
    "put": {"killed", "throttled", "unanswered", "twice", "lost", "late"},
    "delete": {"killed", "throttled", "unanswered", "twice"},
    "get": {"killed", "throttled", "broken_read"},
    "list": {"killed", "throttled"},
}
STORE = Store()
"""The one that the file system below speaks to."""


class SimulatedFileSystem(AbstractFileSystem):
    """The file system of `simulated://`."""

    protocol = "simulated"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return the entries directly in a folder."""
        folder = self._strip_protocol(path).strip("/")
        found: dict[str, dict[str, Any]] = {}
        for name, size in STORE.list(folder):
            first, slash, _rest = name.removeprefix(f"{folder}/").partition("/")
            entry = {"name": f"{folder}/{first}", "size": 0 if slash else size}
            found[first] = entry | {"type": "directory" if slash else "file"}
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else sorted(found)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return size and type of an object or folder."""
        name = self._strip_protocol(path).strip("/")
        if name in STORE.objects:
            return {"name": name, "size": len(STORE.read(name)), "type": "file"}
        if STORE.list(name):
            return {"name": name, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def modified(self, path: str) -> datetime:
        """Return a fixed time."""
        STORE.read(self._strip_protocol(path).strip("/"))
        return datetime(2026, 1, 1, tzinfo=UTC)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return the bytes of an object, or a range of them."""
        return STORE.read(self._strip_protocol(path).strip("/"))[start:end]

    def rm_file(self, path: str) -> None:
        """Remove an object."""
        STORE.change("delete", self._strip_protocol(path).strip("/"), None)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove an object, or all below a folder, one after the other."""
        folder = self._strip_protocol(path).strip("/")
        for name in [name for name, _ in STORE.list(folder)] or [folder]:
            STORE.change("delete", name, None)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "_Object":
        return _Object(self, path.strip("/"), mode, block_size=2**30, cache_type="none")


class _Object(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        return STORE.read(self.path.strip("/"))[start:end]

    def _upload_chunk(self, final: bool = False) -> bool:
        if final:
            STORE.change("put", self.path.strip("/"), self.buffer.getvalue())
        return final

    def discard(self) -> None:
        """Nothing was sent yet."""


fsspec.register_implementation("simulated", SimulatedFileSystem, clobber=True)
