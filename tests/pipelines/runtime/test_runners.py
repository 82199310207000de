"""Test that Beam's options are parsed strictly and that the runner is the intended one."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import FlinkRunnerOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from pipelines.runtime.command_line import find_cause
from pipelines.runtime.runners import _cancel_if_stopped, make_beam_options, make_pipeline, read_counters


def test_known_options_are_taken():
    options = make_beam_options(["--runner=FlinkRunner", "--flink_master=localhost:8081", "--parallelism", "4"])
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(FlinkRunnerOptions).parallelism == 4


@pytest.mark.parametrize("word", ["--runer=FlinkRunner", "--flink-master=x", "stray", "--paralelism=4", "--par=4"])
def test_a_misspelt_option_is_refused(word):
    with pytest.raises(ValueError, match=r"Beam options must be known to apache-beam .*, got " + word):
        make_beam_options(["--parallelism=2", word])


def test_a_value_of_the_wrong_type_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as exit_info:
        make_beam_options(["--parallelism=many"])
    assert exit_info.value.code == 2
    assert "--parallelism" in capsys.readouterr().err


def test_the_embedded_runner_runs_what_names_no_runner():
    with make_pipeline(make_beam_options([])) as pipeline:
        assert type(pipeline.runner) is FnApiRunner
        assert_that(pipeline | beam.Create([1, 2]) | beam.Map(lambda n: n + 1), equal_to([2, 3]))


def test_a_named_runner_is_the_one_that_runs():
    pipeline = make_pipeline(make_beam_options(["--runner=FlinkRunner"]))
    assert type(pipeline.runner).__name__ == "FlinkRunner"


DYING = """
import os, sys
import apache_beam as beam
from pipelines.runtime import command_line, runners

def main(words):
    with runners.make_pipeline(runners.make_beam_options(words)) as pipeline:
        pipeline | beam.Create([9]) | beam.Map(lambda signal: os.kill(os.getpid(), signal))
    return 0

sys.exit(command_line.run_command(main, sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_in_one_line():
    # As a shell starts what it runs in the background: deaf to SIGINT.
    deafen = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    words = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    program = [sys.executable, "-c", DYING, *words]
    run = subprocess.run(program, stderr=subprocess.PIPE, text=True, preexec_fn=deafen, timeout=120, check=False)
    assert run.returncode == 3, run.stderr
    # Threads of gRPC may complain after it.
    (error,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: worker process must live until the job is done, got: Worker subprocess exited")
    assert error.endswith("when that is mended run the same command again, it resumes")


JAVA = "java.lang.RuntimeException: Error received from SDK harness for instruction 7: Traceback (…):\n"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (
            f"Pipeline x failed in state FAILED: {JAVA}  File a\nValueError: corpus must\nbe whole "
            f"[while running 'ListFacts-ptransform-12']\n\tat org.apache",
            ValueError,
            r"corpus must\nbe whole \(step ListFacts-ptransform-12\)",
        ),
        (f"{JAVA}OSError: [Errno 28] No space left [while running 'WriteShard']\n", OSError, r"No space left \(step"),
        (f"{JAVA}KeyError: 'bug' [while running 'WriteShard']\n", RuntimeError, "KeyError: 'bug'"),
        (
            "Pipeline x failed in state FAILED: java.io.IOException: Insufficient number of network buffers\n\tat x",
            OSError,
            "job must run to its end on its engine, got: Pipeline x .* network buffers$",
        ),
    ],
)
def test_an_engine_s_pages_of_java_are_taken_for_what_a_step_raised(text, kind, says):
    found = find_cause(text)
    assert type(found) is kind
    assert re.search(says, str(found))


def test_a_job_server_that_is_not_there_is_an_error_of_the_machine():
    words = ["--runner=PortableRunner", "--job_endpoint=127.0.0.1:9", "--job_server_timeout=1"]
    words += ["--environment_type=EXTERNAL", "--environment_config=localhost:9"]
    pipeline = make_pipeline(make_beam_options(words))
    pipeline | beam.Create([1])
    with pytest.raises(OSError, match="job server must answer until the job is done"):
        pipeline.run()


def test_counters_are_read_by_name_from_a_finished_pipeline():
    def count(number):
        Metrics.counter("job", "seen-scans").inc(number)
        Metrics.counter("other", "seen-scans").inc()

    with make_pipeline(make_beam_options([])) as pipeline:
        pipeline | beam.Create([1, 2]) | "First" >> beam.Map(count) | "Second" >> beam.Map(lambda _: count(10))
    assert read_counters(pipeline, "job") == {"seen-scans": 23}


def test_a_command_that_is_stopped_cancels_its_job():
    cancelled = []

    class Result:
        def cancel(self):
            cancelled.append(True)

    with pytest.raises(SystemExit), _cancel_if_stopped(Result()):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert cancelled == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
