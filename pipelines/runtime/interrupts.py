"""End a command on Ctrl-C with one line and its exit code, whatever it is doing."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipelines.runtime import log

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell's own."""

_is_interrupted = False
_num_deferring = 0
_is_pending = False


@contextmanager
def handle_interrupts() -> Iterator[None]:
    """Handle Ctrl-C while the block runs: the process ends at once until `raise_interrupts` is called.

    Where the signal is ignored, as in a job that a shell runs in the background, it stays so.
    """
    global _is_interrupted, _is_pending
    _is_interrupted = _is_pending = False
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    hooks = sys.unraisablehook, threading.excepthook
    signal.signal(signal.SIGINT, _exit_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook, threading.excepthook = hooks
        logging.disable(logging.NOTSET)


def raise_interrupts() -> None:
    """From now on raise KeyboardInterrupt at the first Ctrl-C, so that what is unfinished is removed."""
    if signal.getsignal(signal.SIGINT) is _exit_at_once:
        signal.signal(signal.SIGINT, _raise)


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Let the first Ctrl-C wait for the end of the block: a process that is begun in it is known, and can be ended."""
    global _num_deferring, _is_pending
    _num_deferring += 1
    try:
        yield
    finally:
        _num_deferring -= 1
        if _is_pending and not _num_deferring:
            _is_pending = False
            signal.raise_signal(signal.SIGINT)  # in a thread: the main one handles it


def is_interrupted() -> bool:
    """Return whether Ctrl-C came; a library may have turned its KeyboardInterrupt into another error."""
    return _is_interrupted


def report(stream: Any = None) -> None:
    """Write the line that a command ends with after Ctrl-C."""
    log.status("error: interrupted; run the same command again, it resumes", stream=stream, level="error")


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    # Nothing is raised: libraries catch it, or print its traceback, while they are imported. A stream of its own: the
    # handler may run while sys.stderr is being written to.
    with open(2, "w", closefd=False) as stderr:
        report(stderr)
    os._exit(INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    global _is_interrupted, _is_pending
    if _num_deferring and not _is_pending:
        _is_pending = True
        return
    _is_interrupted = True
    signal.signal(signal.SIGINT, _exit_at_once)  # a second Ctrl-C does not wait for what the first one set off
    # Threads that lose their pool or their channel would each print a traceback.
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda _: None
    # Raised within a finaliser, it would be printed and forgotten.
    sys.unraisablehook = lambda _: _exit_at_once(number, None)
    raise KeyboardInterrupt
