"""Write local files past the page cache (O_DIRECT), in a background thread.

A dataset is written once and read again much later, if at all: caching its pages would evict what is in use and cost a
copy. So full blocks go to the disk directly, from aligned memory, in a thread. On a file system without O_DIRECT each
block is synced instead.
"""

import errno
import fcntl
import io
import mmap
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 8 * 1024 * 1024
_UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP)
"""Errors of a file system without O_DIRECT."""
_MAX_BLOCKS = 3
"""Per file: one is filled, one is being written, one waits."""


Block = NDArray[np.uint8]


class DirectWriter(io.BufferedIOBase):
    """A new file whose full blocks are written to the disk in the background."""

    def __init__(self, path: Path) -> None:
        self._is_direct = False
        self._offset_bytes = 0
        """Where in the file the block that is being filled begins."""
        self._block = _make_block()
        self._filled_bytes = 0
        self._pending: deque[Future[Block]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._file = io.FileIO(path, "xb")

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._offset_bytes + self._filled_bytes

    def write(self, data: Any, /) -> int:
        """Write all bytes; OSError if an earlier block could not be written, ValueError after close."""
        self._checkClosed()  # type: ignore[attr-defined]
        left = np.frombuffer(data, np.uint8)
        num_bytes = left.size
        while left.size:
            taken = left[: _BLOCK_BYTES - self._filled_bytes]
            end = self._filled_bytes + taken.size
            self._block[self._filled_bytes : end] = taken  # NumPy releases the GIL while it copies
            self._filled_bytes = end
            left = left[taken.size :]
            if end == _BLOCK_BYTES:
                self._submit_block()
        return num_bytes

    def writelines(self, chunks: Iterable[Any], /) -> None:
        """Write the bytes of many chunks."""
        for chunk in chunks:
            self.write(chunk)

    def sync(self) -> None:
        """Wait until all bytes are on the disk; OSError if any could not be written."""
        while self._pending:
            self._pending.popleft().result()
        self._set_direct(False)  # the last block may end within a sector
        _write_all(self._file.fileno(), self._block.data[: self._filled_bytes], self._offset_bytes)
        self._offset_bytes, self._filled_bytes = self.tell(), 0
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close after pending writes; what was not synced may be lost."""
        if self._pool is not None:
            self._pool.shutdown()
        if hasattr(self, "_file"):  # False if opening failed
            self._file.close()
        super().close()

    def _submit_block(self) -> None:
        """Write the full block in the background and take a free one, waiting for it if all are in use."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="write-file")
            self._set_direct(True)
        self._pending.append(self._pool.submit(self._write_block, self._block, self._offset_bytes))
        full = len(self._pending) == _MAX_BLOCKS or self._pending[0].done()
        self._block = self._pending.popleft().result() if full else _make_block()
        self._offset_bytes, self._filled_bytes = self.tell(), 0

    def _write_block(self, block: Block, offset_bytes: int) -> Block:
        try:
            _write_all(self._file.fileno(), block.data, offset_bytes)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or not self._is_direct:
                raise
            self._set_direct(False)  # the flag was accepted, the write was not
            _write_all(self._file.fileno(), block.data, offset_bytes)
        if not self._is_direct:
            os.fdatasync(self._file.fileno())
        return block

    def _set_direct(self, is_direct: bool) -> None:
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags | (os.O_DIRECT if is_direct else 0))
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            is_direct = False  # for example a file system in memory
        self._is_direct = is_direct


def _make_block() -> Block:
    return np.frombuffer(mmap.mmap(-1, _BLOCK_BYTES), np.uint8)  # page-aligned, as O_DIRECT requires


def _write_all(descriptor: int, data: memoryview, offset_bytes: int) -> None:
    while data:
        num_bytes = os.pwrite(descriptor, data, offset_bytes)
        data, offset_bytes = data[num_bytes:], offset_bytes + num_bytes
