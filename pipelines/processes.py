"""Who does the work of a job on one machine? Processes, one a core.

Beam's embedded runner has one thread for all elements of a step, and its own way to have more costs more than it brings
(each element then travels to another process). Copying scans is half Python, so threads would wait for one another. So
a step may hand its work to the processes of `run_in_processes`, where its job has started them, and do it itself where
not: on another engine, whose workers are processes already.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import fsspec

MAX_PROCESSES = 8
"""Each takes about 150 MB of memory; fewer than these keep a disk busy."""
_PRELOADED = ["shards.finish", "shards.sample_source", "shards.scan_source"]

_pool: ProcessPoolExecutor | None = None
_num_processes = 1

T = TypeVar("T")


@contextmanager
def run_in_processes(num_processes: int | None = None) -> Iterator[None]:
    """Have the tasks of this process done by others while the block runs: one a core, unless said otherwise.

    They start with the first task. Where the block raises, or this process dies, they end at once. They import the
    program's main module, so it belongs to commands: a script must have it behind `if __name__ == "__main__"`.
    """
    global _pool, _num_processes
    _num_processes = num_processes or min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
    if _num_processes == 1:
        yield
        return
    # Not forked from here: a fork of a process with threads (progress, object stores) may hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    settings = (dict(os.environ), dict(fsspec.config.conf))
    _pool = ProcessPoolExecutor(_num_processes, mp_context=context, initializer=_begin, initargs=settings)
    others = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        _pool.shutdown(cancel_futures=True)
        _pool = None


class Tasks(Generic[T]):
    """Calls of a function, done by other processes where there are any; results come in the order of the calls."""

    def __init__(self) -> None:
        self._pending: deque[Future[T]] = deque()

    def call(self, function: Callable[..., T], *args: Any) -> Iterator[T]:
        """Start a call; yield the results that must be taken before the next one may start."""
        if _pool is None:
            yield function(*args)
            return
        self._pending.append(_pool.submit(function, *args))
        if len(self._pending) > 2 * _num_processes:
            yield self._take()

    def finish(self) -> Iterator[T]:
        """Yield all results that are left."""
        while self._pending:
            yield self._take()

    def _take(self) -> T:
        try:
            return self._pending.popleft().result()
        except BrokenProcessPool as error:
            raise OSError(f"worker process must live until its task is done, got: {error}") from error


def _begin(environment: dict[str, str], store_options: dict[str, Any]) -> None:
    # What this process was forked from started earlier, perhaps before somebody said where a store is.
    os.environ.clear()
    os.environ.update(environment)
    fsspec.config.conf.clear()
    fsspec.config.conf.update(store_options)
    gc.freeze()  # what was imported stays: no need to look through it again and again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: who started this one handles it
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
