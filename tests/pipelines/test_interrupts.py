"""Test that Ctrl-C ends a command with one line and exit code 130, whatever it is doing."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.runtime import interrupts
from tests.corpora import make_corpus
from tests.processes import descendants

DEADLINE_SECONDS = 60
LINE = "error: interrupted; run the same command again, it resumes"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """More scans than a job does in its own process."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), num_train=500, num_test=100).root


def heed_interrupts():
    """Undo what a shell does to a job in the background, of which these tests may be a part."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*words):
    program = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    return subprocess.Popen(
        program, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts
    )


def interrupt_when(run, is_time):
    """Send SIGINT to the group of a process, as a terminal does; return its code and lines."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_time():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGINT)
    _, text = run.communicate(timeout=DEADLINE_SECONDS)
    return run.returncode, text.splitlines()


def test_an_interrupt_while_libraries_are_imported_is_one_line(corpus, tmp_path):
    run = start("convert", "--input", corpus, "--output", tmp_path / "ds")
    code, lines = interrupt_when(run, lambda: "_multiarray_umath" in Path(f"/proc/{run.pid}/maps").read_text())
    assert (code, lines) == (interrupts.INTERRUPTED, [LINE])
    assert not (tmp_path / "ds").exists()


@pytest.mark.slow  # a command that starts its worker processes
def test_an_interrupt_while_workers_write_removes_what_is_unfinished(corpus, tmp_path):
    output = tmp_path / "ds"
    run = start("convert", "--input", corpus, "--output", output, "--shard-bytes=4000")
    code, lines = interrupt_when(run, lambda: list(output.glob("*/*.tar")) and len(descendants(run.pid)) > 2)
    assert code == interrupts.INTERRUPTED
    assert lines[-1] == LINE and not any("Traceback" in line for line in lines)
    assert not (output / "dataset.json").exists()
    assert not list(output.rglob("*.tmp"))


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_interrupt_waits_while_a_process_is_begun(in_thread):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    reached = []

    def begin():
        with interrupts.defer_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            reached.append(True)

    try:
        with interrupts.handle_interrupts():
            interrupts.raise_interrupts()
            with pytest.raises(KeyboardInterrupt):
                if in_thread:
                    thread = threading.Thread(target=begin)
                    thread.start()
                    thread.join()
                    time.sleep(0.05)
                else:
                    begin()
    finally:
        signal.signal(signal.SIGINT, before)
        interrupts._is_interrupted = False
    assert reached == [True]


def test_an_error_that_a_library_makes_of_an_interrupt_is_an_interrupt():
    body = (
        "import os, signal, sys\n"
        "from pipelines.runtime import command_line, interrupts\n"
        "def main(words):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException as error:\n"
        "        raise ValueError('other') from error\n"
        "with interrupts.handle_interrupts():\n"
        "    sys.exit(command_line.run_command(main, []))\n"
    )
    program = [sys.executable, "-c", body]
    run = subprocess.run(program, stderr=subprocess.PIPE, text=True, check=False, preexec_fn=heed_interrupts)
    assert (run.returncode, run.stderr.splitlines()) == (interrupts.INTERRUPTED, [LINE])


def test_an_ignored_interrupt_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.handle_interrupts():
            interrupts.raise_interrupts()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
