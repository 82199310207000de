"""Make Beam pipelines from strictly parsed options, and report how their runners fail."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult

from pipelines.runtime.command_line import find_cause

_WORKER_THREAD = "run_worker"
"""What the embedded runner calls the threads that wait for its worker processes."""


def make_beam_options(words: Sequence[str]) -> PipelineOptions:
    """Return Beam's options from the words after a lone `--`.

    Raises:
        ValueError: a word is none of the options that this Beam release knows (Beam itself only logs a warning).
        SystemExit: a value is not one that its option takes; argparse has said so.
    """
    parsers: list[object] = []
    # The callback is Beam's way to let a runner add options of its own: the one place that shows the whole parser.
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    _, unknown = parsers[0].parse_known_args(list(words))  # type: ignore[attr-defined]
    if unknown:
        raise ValueError(
            f"Beam options must be known to apache-beam {beam.version.__version__}, got {' '.join(unknown)}; "
            f"the project's own flags stand before the `--`"
        )
    return PipelineOptions(list(words))


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """Return a pipeline on the runner that the options name, else on the embedded one.

    The embedded runner is named outright: Beam's default would first try to download another one.
    """
    if options.view_as(StandardOptions).runner:
        return _RemotePipeline(options=options)
    return _EmbeddedPipeline(runner=FnApiRunner(), options=options)


def read_counters(pipeline: beam.Pipeline, namespace: str) -> dict[str, int]:
    """Return the counters of a finished pipeline by name, as its engine shows them."""
    found: dict[str, int] = {}
    for counter in pipeline.result.metrics().query()["counters"]:
        if counter.key.metric.namespace == namespace:
            name = counter.key.metric.name
            found[name] = found.get(name, 0) + int(counter.result or 0)
    return dict(sorted(found.items()))


class _RemotePipeline(beam.Pipeline):
    """A pipeline on another engine; `run` returns when its job ends, and raises the error of its step."""

    def run(self, test_runner_api: Any = "AUTO") -> PipelineResult:
        try:
            result = super().run(test_runner_api)
            with _cancel_if_stopped(result):
                result.wait_until_finish()
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise OSError(f"job server must answer until the job is done, got {error!r}") from error
        except RuntimeError as error:
            raise find_cause(str(error)) from error
        return result


@contextmanager
def _cancel_if_stopped(result: PipelineResult) -> Iterator[None]:
    """Cancel a job on its engine if the command is interrupted or terminated."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)) if is_main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        result.cancel()
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


class _EmbeddedPipeline(beam.Pipeline):
    """A pipeline on the embedded runner, which fails if a worker process dies."""

    def run(self, test_runner_api: Any = "AUTO") -> PipelineResult:
        with _watch_workers():
            return super().run(test_runner_api)


@contextmanager
def _watch_workers() -> Iterator[None]:
    """Raise OSError if a worker process dies (killed, out of memory): the embedded runner would wait for ever.

    It starts each worker process from a thread of its own, which raises when the process ends with an error, while the
    main thread keeps waiting for an answer. That error is caught and the wait interrupted, by SIGUSR1: a shell that
    starts a job in the background has it ignore SIGINT.
    """
    main_thread = threading.main_thread()
    if threading.current_thread() is not main_thread:  # signals interrupt the main thread alone
        yield
        return
    died: list[BaseException] = []
    before = threading.excepthook

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _WorkerDied

    def interrupt_main(args: threading.ExceptHookArgs) -> None:
        if died or args.thread is None or not args.thread.name.startswith(_WORKER_THREAD) or args.exc_value is None:
            before(args)
            return
        died.append(args.exc_value)
        assert main_thread.ident is not None
        signal.pthread_kill(main_thread.ident, signal.SIGUSR1)

    threading.excepthook = interrupt_main
    signal_before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    except _WorkerDied:
        raise OSError(f"worker process must live until the job is done, got: {died[0]}") from died[0]
    finally:
        threading.excepthook = before
        signal.signal(signal.SIGUSR1, signal_before)


class _WorkerDied(BaseException):
    """A BaseException: what waits for the worker may catch an Exception and keep waiting."""
