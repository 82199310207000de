"""What if a TaskManager, a Python worker or the store dies in the middle of a job, or the store is slow and cuts lines?

The job recovers or fails cleanly (exit 3), the same command again completes it, and the dataset is the undisturbed one.
"""

import os
import signal
import time

import pytest

from deploy.local.processes import members_of, pid_of
from tests.cluster.site import LIMIT_SECONDS, convert_words, finish

SLOW_SECONDS = 0.2
"""Between a request and its answer: a job of seconds takes long enough to be disturbed in its middle."""


def kill_and_restart(name):
    def disturb(site):
        site.cluster.kill(name)
        time.sleep(3)
        site.cluster.start(name)

    return disturb


def kill_a_python_worker(site):
    pool = pid_of("workers-1", site.cluster.folder)
    assert pool is not None
    workers = [pid for pid in members_of(pool) if pid != pool]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def kill_the_worker_pool(site):
    kill_and_restart("workers-2")(site)


DISTURBANCES = {
    "task-manager": kill_and_restart("task-manager-1"),
    "python-worker": kill_a_python_worker,
    "worker-pool": kill_the_worker_pool,
    "store": kill_and_restart("s3"),
}


def await_tars(site, output, num, process):
    """Wait until so many shards are written."""
    until = time.monotonic() + LIMIT_SECONDS
    while len(list((site.bucket / output).glob("*/*.tar"))) < num:
        assert process.poll() is None, "the job ended before it was disturbed"
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("what", DISTURBANCES)
def test_a_death_in_the_middle_costs_no_byte(site, dataset, lame, what):
    output = f"killed-{what}"
    words = convert_words(site, output)
    lame.delay_seconds = SLOW_SECONDS
    process = site.start(*words, beam=site.flink)
    await_tars(site, output, 3, process)
    num_before = len(list((site.bucket / output).glob("*/*.tar")))
    DISTURBANCES[what](site)
    lame.delay_seconds = 0
    first = finish(process)
    print(f"{what}: killed at {num_before} shards, exit {first.code}: {first.log.splitlines()[-1]}")
    assert first.code in (0, 3), first.log
    if first.code == 0:
        assert site.files(output) == dataset
    second = site.run(*words, beam=site.flink)
    assert second.code == 0, second.log
    assert site.files(output) == dataset


def test_a_store_that_is_slow_and_cuts_lines_costs_no_byte(site, dataset, lame):
    words = convert_words(site, "lame")
    lame.delay_seconds, lame.cut_after_bytes, lame.cuts_left, lame.let_pass = 0.05, 2000, 8, 40
    first = site.run(*words, beam=site.flink)
    assert "cut" in lame.seen
    assert first.code in (0, 3), first.log
    lame.delay_seconds = lame.cuts_left = 0
    second = site.run(*words, beam=site.flink)
    assert second.code == 0, second.log
    assert site.files("lame") == dataset


def test_a_command_that_is_stopped_leaves_a_job_that_the_next_run_agrees_with(site, dataset, lame, flink_jobs):
    words = convert_words(site, "stopped")
    lame.delay_seconds = SLOW_SECONDS
    process = site.start(*words, beam=site.flink)
    await_tars(site, "stopped", 1, process)
    process.terminate()
    assert finish(process).code == 128 + signal.SIGTERM
    lame.delay_seconds = 0
    until = time.monotonic() + LIMIT_SECONDS
    # Beam's job server takes the request to cancel and lets Flink go on.
    while any(job["state"] not in ("CANCELED", "FINISHED", "FAILED") for job in flink_jobs()):
        assert time.monotonic() < until
        time.sleep(0.2)
    second = site.run(*words, beam=site.flink)
    assert second.code == 0, second.log
    assert site.files("stopped") == dataset
