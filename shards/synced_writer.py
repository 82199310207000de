"""How does a local file get to its disk without anybody waiting at its end? Synced while more is written."""

import io
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

_CHUNKS_A_CALL = 1024
"""At most, by POSIX' IOV_MAX on Linux."""
_SYNC_BYTES = 32 * 1024 * 1024
"""Of a local file that is being written: so much waits in memory at most, and a disk takes that in one go."""


class SyncedWriter(io.BufferedWriter):
    """A new file whose bytes go to the disk while more are written: nobody waits for all of them at its end."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "xb"))
        self._unsynced_bytes = 0
        self._syncing: Future[None] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def write(self, data: Any, /) -> int:
        """Write, and start a sync of what has come together if none is under way."""
        num_bytes = super().write(data)
        self._sync_now_and_then(num_bytes)
        return num_bytes

    def writelines(self, chunks: Iterable[Any], /) -> None:
        """Write many chunks in as few calls as the system takes: each lets other threads run once, not once a chunk."""
        self.flush()
        left = [memoryview(chunk) for chunk in chunks]
        while left:
            num_bytes = os.writev(self.fileno(), left[:_CHUNKS_A_CALL])
            self._sync_now_and_then(num_bytes)
            while left and num_bytes >= len(left[0]):
                num_bytes -= len(left.pop(0))
            if num_bytes:
                left[0] = left[0][num_bytes:]

    def sync(self) -> None:
        """Return when all bytes are on the disk; OSError where they, or earlier ones, could not be written."""
        self.flush()
        self._wait()
        os.fsync(self.fileno())

    def close(self) -> None:
        """Close, once nothing uses the file any more."""
        if self._pool is not None:
            self._pool.shutdown()
        super().close()

    def _sync_now_and_then(self, num_bytes: int) -> None:
        self._unsynced_bytes += num_bytes
        if self._unsynced_bytes >= _SYNC_BYTES and (self._syncing is None or self._syncing.done()):
            self._wait()
            self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="sync-file")
            self._syncing = self._pool.submit(os.fdatasync, self.fileno())
            self._unsynced_bytes = 0

    def _wait(self) -> None:
        # An error is told once, to whoever synced: the file's last sync would not hear of it.
        if self._syncing is not None:
            self._syncing.result()
