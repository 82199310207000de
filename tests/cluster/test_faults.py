"""Tests of jobs on a cluster whose engine, workers or store fail.

The job recovers or fails cleanly (exit 3), the same command again completes it, and the dataset is the undisturbed one.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from deploy.local.processes import members_of, pid_of
from tests.cluster.site import LIMIT_SECONDS, convert_words, finish
from tests.processes import descendants

SLOW_SECONDS = 0.2
"""Delay of an answer: it makes a job of seconds long enough to be disturbed."""


def kill_and_restart(name):
    def disturb(site, process):
        site.cluster.kill(name)
        time.sleep(3)
        site.cluster.start(name)

    return disturb


def kill_a_python_worker(site, process):
    pool = pid_of("workers-1", site.cluster.folder)
    assert pool is not None
    workers = [pid for pid in members_of(pool) if pid != pool]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def kill_prism(site, process):
    (prism,) = [pid for pid in descendants(process.pid) if Path(f"/proc/{pid}/comm").read_text() == "prism\n"]
    os.kill(prism, signal.SIGKILL)


DISTURBANCES = {
    ("flink", "task-manager"): kill_and_restart("task-manager-1"),
    ("flink", "python-worker"): kill_a_python_worker,
    ("flink", "worker-pool"): kill_and_restart("workers-2"),
    ("flink", "store"): kill_and_restart("s3"),
    ("prism", "prism"): kill_prism,
}
"""By engine and what dies. Prism is part of its command and has no TaskManagers; a store in trouble needs no engine of
its own (`tests/integration/test_object_stores.py`), so it fails under Flink alone."""


def num_tars(site, output):
    return len(list((site.bucket / output).glob("*/*.tar")))


def start_slowly(site, lame, output, num, beam):
    """Start a conversion and wait until `num` shards are written; the store is slow from the first one on."""
    process = site.start(*convert_words(site, output), beam=beam)
    until = time.monotonic() + LIMIT_SECONDS
    for enough in (1, num):
        while num_tars(site, output) < enough:
            assert process.poll() is None, "the job ended before it was disturbed"
            assert time.monotonic() < until
            time.sleep(0.05)
        lame.delay_seconds = SLOW_SECONDS
    return process


@pytest.mark.parametrize(("engine", "what"), DISTURBANCES, indirect=["engine"])
def test_a_death_in_the_middle_costs_no_byte(site, dataset, lame, engine, what):
    name, beam = engine
    output = f"killed-{name}-{what}"
    process = start_slowly(site, lame, output, 3, beam)
    num_before = num_tars(site, output)
    DISTURBANCES[name, what](site, process)
    lame.delay_seconds = 0
    first = finish(process)
    print(f"{name}, {what}: killed at {num_before} shards, exit {first.code}: {first.log.splitlines()[-1]}")
    assert num_before < sum(file.endswith(".tar") for file in dataset)
    assert first.code in (0, 3), first.log
    if first.code == 0:
        assert site.files(output) == dataset
    second = site.run(*convert_words(site, output), beam=beam)
    assert second.code == 0, second.log
    assert site.files(output) == dataset


def test_a_store_that_is_slow_and_cuts_lines_costs_no_byte(site, dataset, lame):
    output, beam = "lame", site.flink
    lame.delay_seconds, lame.cut_after_bytes, lame.cuts_left, lame.let_pass = 0.05, 2000, 8, 40
    first = site.run(*convert_words(site, output), beam=beam)
    assert "cut" in lame.seen
    assert first.code in (0, 3), first.log
    lame.delay_seconds = lame.cuts_left = 0
    second = site.run(*convert_words(site, output), beam=beam)
    assert second.code == 0, second.log
    assert site.files(output) == dataset


def test_a_command_that_is_stopped_leaves_a_job_that_the_next_run_agrees_with(site, dataset, lame, flink_jobs):
    process = start_slowly(site, lame, "stopped", 1, site.flink)
    process.terminate()
    assert finish(process).code == 128 + signal.SIGTERM
    lame.delay_seconds = 0
    until = time.monotonic() + LIMIT_SECONDS
    # Beam's job server takes the request to cancel and lets Flink go on.
    while any(job["state"] not in ("CANCELED", "FINISHED", "FAILED") for job in flink_jobs()):
        assert time.monotonic() < until
        time.sleep(0.2)
    second = site.run(*convert_words(site, "stopped"), beam=site.flink)
    assert second.code == 0, second.log
    assert site.files("stopped") == dataset
