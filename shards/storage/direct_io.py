"""How does a local file get to its disk as fast as the disk takes it? Past the page cache, while more is made.

A corpus is written once and read again much later, if at all: pages of it in memory would push out what is in use, cost
a copy and then a second pass to get them to the disk. So full blocks go to the disk directly (O_DIRECT), from memory
that is aligned for it, in a thread of their own. A file system that cannot do that gets each block synced instead.
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
_NOT_SO = (errno.EINVAL, errno.EOPNOTSUPP)
"""What a file system says that cannot write directly."""
_MAX_BLOCKS = 3
"""Of a file: one is filled, one is being written, one waits."""


Block = NDArray[np.uint8]


class DirectWriter(io.BufferedIOBase):
    """A new file whose bytes go to the disk while more are written: nobody waits for all of them at its end."""

    def __init__(self, path: Path) -> None:
        self._is_direct = False
        self._offset_bytes = 0
        """Of the block that is being filled."""
        self._block = _make_block()
        self._filled_bytes = 0
        self._pending: deque[Future[Block]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._file = io.FileIO(path, "xb")

    def writable(self) -> bool:
        """Say that it is."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written so far."""
        return self._offset_bytes + self._filled_bytes

    def write(self, data: Any, /) -> int:
        """Take all the bytes; OSError where earlier ones could not be written, ValueError once it is closed."""
        self._checkClosed()  # type: ignore[attr-defined]
        left = np.frombuffer(data, np.uint8)
        num_bytes = left.size
        while left.size:
            taken = left[: _BLOCK_BYTES - self._filled_bytes]
            end = self._filled_bytes + taken.size
            self._block[self._filled_bytes : end] = taken  # by NumPy: other threads run while it copies
            self._filled_bytes = end
            left = left[taken.size :]
            if end == _BLOCK_BYTES:
                self._hand_over()
        return num_bytes

    def writelines(self, chunks: Iterable[Any], /) -> None:
        """Take the bytes of many chunks."""
        for chunk in chunks:
            self.write(chunk)

    def sync(self) -> None:
        """Return when all bytes are on the disk; OSError where any could not be written."""
        while self._pending:
            self._pending.popleft().result()
        self._set_direct(False)  # the last block ends where it ends, in the middle of a sector
        _write_all(self._file.fileno(), self._block.data[: self._filled_bytes], self._offset_bytes)
        self._offset_bytes, self._filled_bytes = self.tell(), 0
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close, once nothing uses the file any more; what was not synced is lost."""
        if self._pool is not None:
            self._pool.shutdown()
        if hasattr(self, "_file"):  # or it could not be opened
            self._file.close()
        super().close()

    def _hand_over(self) -> None:
        """Have the full block written, and take another, waiting for one where all are on their way."""
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
            if error.errno not in _NOT_SO or not self._is_direct:
                raise
            self._set_direct(False)  # it took the flag, and does not write so
            _write_all(self._file.fileno(), block.data, offset_bytes)
        if not self._is_direct:
            os.fdatasync(self._file.fileno())
        return block

    def _set_direct(self, is_direct: bool) -> None:
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags | (os.O_DIRECT if is_direct else 0))
        except OSError as error:
            if error.errno not in _NOT_SO:
                raise
            is_direct = False  # a file system in memory, say
        self._is_direct = is_direct


def _make_block() -> Block:
    return np.frombuffer(mmap.mmap(-1, _BLOCK_BYTES), np.uint8)  # it begins with a page, as a direct write wants


def _write_all(descriptor: int, data: memoryview, offset_bytes: int) -> None:
    while data:
        num_bytes = os.pwrite(descriptor, data, offset_bytes)
        data, offset_bytes = data[num_bytes:], offset_bytes + num_bytes
