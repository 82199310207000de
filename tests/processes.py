"""Run commands in forked processes that start fast and can be killed."""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipelines.runtime import process_pool

NOBODY = 65534
COMMANDS = ("pipelines.convert", "pipelines.reshard", "pipelines.verify")
# With the jobs that the commands load late: a process that gave its rights up may be kept from the interpreter's files.
_JOBS = ("pipelines.transforms.convert", "pipelines.transforms.reshard", "pipelines.transforms.verify")
PRELOADED = [*COMMANDS, *_JOBS, "tests.processes", "tests.beam_cache"]


def start_command(module: str, words: Sequence[object], log: Path, user: int | None = None) -> BaseProcess:
    """Start a command in a new process; its exit code is the process'.

    Args:
        module: one of COMMANDS; they are imported once, by the process that all are forked from.
        words: of the command line.
        log: where it prints to.
        user: id to run as, in a single process; another than one's own needs root.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(module, [str(word) for word in words], str(log), user))
    process.start()
    return process


def run_command(module: str, words: Sequence[object], log: Path, user: int | None = None) -> int:
    """Run a command to its end; return its exit code."""
    process = start_command(module, words, log, user)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process."""
    direct = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        direct += [int(word) for word in task.read_text().split()]
    return direct + [inner for child in direct for inner in descendants(child)]


def _run(module: str, words: list[str], log: str, user: int | None) -> None:
    from tests import beam_cache  # here: whoever imports this module need not load Beam

    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(out, stream)
    beam_cache.install()
    process_pool.SMALL_JOB_SCANS = 0  # the tests' jobs are small
    if user is not None:
        process_pool.MAX_PROCESSES = 1  # others would be forked from a server that is still who we were
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    sys.exit(importlib.import_module(module).main(words))
