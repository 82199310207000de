"""Test that tasks run in other processes, in order, and that no process outlives the job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipelines.runtime.process_pool import SMALL_JOB_SCANS, Tasks, run_in_processes, set_job_size
from shards import host, storage


def double(number):
    return 2 * number, os.getpid()


def fail(number):
    raise FileNotFoundError(2, "No such file or directory", f"/scans/{number}")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def wait(seconds):
    time.sleep(seconds)


def read_settings(name):
    return os.environ.get(name), fsspec.config.conf.get(name)


def write_slowly(path):
    with storage.atomic_writer(path) as out:
        out.write(b"half")
        time.sleep(60)


def call(function, values):
    tasks: Tasks[Any] = Tasks()
    results = [result for value in values for result in tasks.call(function, value)]
    return results + list(tasks.finish())


@pytest.mark.slow
def test_results_come_in_the_order_of_the_calls_from_other_processes():
    with run_in_processes(2):
        results = call(double, range(20))
    assert [number for number, _ in results] == list(range(0, 40, 2))
    assert os.getpid() not in {pid for _, pid in results}


def test_no_more_calls_are_under_way_than_are_needed_to_keep_all_busy():
    with run_in_processes(2):
        tasks: Tasks[Any] = Tasks()
        early = [tasks.call(double, number) for number in range(6)]
        assert [len(results) for results in early] == [0, 0, 0, 0, 1, 1]
        assert len(list(tasks.finish())) == 4


@pytest.mark.parametrize("num_processes", [None, 1])
def test_without_processes_the_work_is_done_here(num_processes):
    if num_processes is None:
        results = call(double, range(3))
    else:
        with run_in_processes(num_processes):
            results = call(double, range(3))
    assert results == [(0, os.getpid()), (2, os.getpid()), (4, os.getpid())]


def test_the_tasks_of_a_small_job_are_done_here():
    with run_in_processes(2):
        set_job_size(SMALL_JOB_SCANS - 1)
        assert call(double, range(2)) == [(0, os.getpid()), (2, os.getpid())]
        set_job_size(SMALL_JOB_SCANS)
        assert os.getpid() not in {pid for _, pid in call(double, range(2))}


def test_processes_have_the_settings_that_hold_when_they_begin(monkeypatch):
    with run_in_processes(2):
        assert call(read_settings, ["NEWLY_SET"]) == [(None, None)]
    monkeypatch.setenv("NEWLY_SET", "here")
    monkeypatch.setitem(fsspec.config.conf, "NEWLY_SET", {"endpoint_url": "there"})
    with run_in_processes(2):
        assert call(read_settings, ["NEWLY_SET"]) == [("here", {"endpoint_url": "there"})]


def test_an_error_of_a_task_is_what_it_was():
    with pytest.raises(FileNotFoundError, match="/scans/0") as raised, run_in_processes(2):
        call(fail, range(3))
    assert raised.value.errno == 2


def test_a_process_that_dies_is_an_error_of_the_machine():
    expected = "worker process must live until its task is done, got: "
    with pytest.raises(OSError, match=expected), run_in_processes(2):
        call(die, range(3))


def test_a_call_after_a_process_has_died_is_that_error_too():
    with pytest.raises(OSError, match="worker process must live"), run_in_processes(2):
        Tasks().call(die, 0)
        while True:  # each time anew, so that the result of the dead one is not asked for
            Tasks().call(wait, 0.01)
            time.sleep(0.1)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_where_the_block_raises_what_is_half_written_is_removed(tmp_path, error):
    with pytest.raises(error), run_in_processes(2):
        tasks: Tasks[Any] = Tasks()
        for number in range(4):
            tasks.call(write_slowly, tmp_path / f"{number}")
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), (None, 4)]
)
def test_a_quota_of_a_container_counts_as_fewer_cores(tmp_path, monkeypatch, text, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(host, "_QUOTA", tmp_path / "cpu.max")
    if text is not None:
        (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert host.count_cores() == expected


def test_where_the_block_raises_nobody_waits_for_what_is_under_way():
    began = time.monotonic()
    with pytest.raises(KeyError), run_in_processes(2):
        Tasks().call(wait, 60)
        raise KeyError
    assert time.monotonic() - began < 30


def test_processes_end_with_whoever_started_them():
    code = (
        "import os, signal\n"
        "from tests.pipelines.runtime.test_process_pool import *\n"
        "with run_in_processes(2):\n"
        "    pids = {pid for _, pid in call(double, range(8))}\n"
        "    print(*pids, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    pids = [int(word) for word in done.stdout.split()]
    assert pids and done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
