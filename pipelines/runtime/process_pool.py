"""Run tasks of a job's steps in processes, one a core.

Beam's embedded runner has one thread for all elements of a step, and its own processes cost more than they bring (each
element then travels to another process). Copying scans is half Python, so threads would wait for one another. So a step
may hand its work to the processes of `run_in_processes`, where its job has started them; on another engine, whose
workers are processes already, it does the work itself.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, TypeVar

import fsspec

from pipelines.runtime import interrupts
from shards.host import count_cores
from shards.prefetch import OrderedCalls

MAX_PROCESSES = 8
"""Each takes about 150 MB of memory; fewer than these keep a disk busy."""
SMALL_JOB_SCANS = 200
"""Jobs of fewer scans run in the command's own process: others take longer to start than all of the work."""
_STOP_SECONDS = 10
_TRACKER_WARNING = "ignore:resource_tracker"
# PyArrow imports pandas with the first list that becomes an array: once here, not in each process.
_PRELOADED = ["shards.writing.finish", "shards.writing.dataset_source", "shards.writing.corpus_source", "pandas"]

_pool: ProcessPoolExecutor | None = None
_num_processes = 1
_is_small_job = False

T = TypeVar("T")


@contextmanager
def run_in_processes(num_processes: int | None = None) -> Iterator[None]:
    """Run the tasks of this process in others while the block runs: one a core, unless a number is given.

    They start with the first task. Where the block raises, or this process dies, they end at once. They import the
    program's main module, so it belongs to commands: a script must have it behind `if __name__ == "__main__"`.
    """
    global _pool, _num_processes, _is_small_job
    _is_small_job = False
    _num_processes = num_processes or min(MAX_PROCESSES, count_cores())
    if _num_processes == 1:
        yield
        return
    # Processes that are ended at once leave semaphores to the resource tracker: it removes them, and need not warn.
    if _TRACKER_WARNING not in sys.warnoptions:
        sys.warnoptions.append(_TRACKER_WARNING)
    # Not forked from here: a fork of a process with threads (progress, object stores) may hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    settings = (dict(os.environ), dict(fsspec.config.conf))
    _pool = ProcessPoolExecutor(_num_processes, mp_context=context, initializer=_begin, initargs=settings)
    others = set(multiprocessing.active_children())
    try:
        yield
        _pool.shutdown()
    except BaseException:
        _pool.shutdown(wait=False, cancel_futures=True)
        _stop(set(multiprocessing.active_children()) - others)
        raise
    finally:
        _pool = None


def set_job_size(num_scans: int) -> None:
    """Say how many scans a job has, or how many at least.

    The tasks of a small job stay in this process: they would be done before another has started. For a larger one, the
    server that the processes are forked from starts now, so that it has imported its modules (0.7 s) once they are
    asked for.
    """
    global _is_small_job
    _is_small_job = num_scans < SMALL_JOB_SCANS
    if _pool is not None and not _is_small_job:
        _start_server()


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Let processes that this thread starts in the block never see Ctrl-C, which a terminal sends to all of a group."""
    resource_tracker.ensure_running()  # it unblocks the signal where it starts itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_server() -> None:
    with block_interrupts():
        forkserver.ensure_running()


def _stop(processes: Iterable[BaseProcess]) -> None:
    """End processes in the middle of a task: each may remove what is unfinished, if it does not take long."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


class _Starter(Executor):
    """Submits calls to a pool. It starts its processes with the first ones, and Ctrl-C waits for a start.

    Else the process would be nobody's, and end with a traceback where it finds what it should share removed.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        with interrupts.defer_interrupts():
            return self._pool.submit(function, *args, **kwargs)


class Tasks(Generic[T]):
    """Calls of a function, done by other processes where there are any; results come in the order of the calls."""

    def __init__(self) -> None:
        self._calls = None if _pool is None or _is_small_job else OrderedCalls[T](_Starter(_pool), 2 * _num_processes)

    def call(self, function: Callable[..., T], *args: Any) -> list[T]:
        """Start a call; return the results that must be taken before the next one may start."""
        if self._calls is None:
            return [function(*args)]
        _start_server()
        with _as_os_error():
            return self._calls.submit(_run, function, *args)

    def finish(self) -> Iterator[T]:
        """Yield all results that are left."""
        if self._calls is not None:
            with _as_os_error():
                yield from self._calls.finish()


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise OSError(
            f"worker process must live until its task is done, got: {error}; it was killed, or memory ran out"
        ) from error


def _begin(environment: dict[str, str], store_options: dict[str, Any]) -> None:
    # What this process was forked from started earlier, perhaps before somebody said where a store is.
    os.environ.clear()
    os.environ.update(environment)
    fsspec.config.conf.clear()
    fsspec.config.conf.update(store_options)
    gc.freeze()  # what was imported stays: no need to look through it again and again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the server was started by another, outside `block_interrupts`
    signal.signal(signal.SIGTERM, _leave_task)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _leave_task(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # asked once: what is being removed then is not left half-way
    sys.exit(128 + number)


def _run(function: Callable[..., T], *args: Any) -> T:
    try:
        return function(*args)
    except SystemExit:  # the task has removed what it left unfinished; there is nobody to tell
        os._exit(1)


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # who runs the job again at once finds nothing half-written
    time.sleep(_STOP_SECONDS)
    os._exit(1)
