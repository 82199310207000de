"""Score shards in one process a device, which take them from one queue."""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from pipelines.runtime import log, progress
from pipelines.runtime.process_pool import block_interrupts
from pipelines.steps.score_shards import Outcome, ScoringJob, load_network, score_tasks
from shards.predictions.plan import ShardTask

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_STOP_SECONDS = 10.0
_LOGGERS = ("", "pipelines", "model", "sixray")


def count_gpus() -> int:
    """Return how many GPUs this machine shows."""
    import torch  # takes seconds, and a run that finds nothing to do does without

    return torch.cuda.device_count()


def choose_devices(num_devices: int | None, options: "PipelineOptions") -> int:
    """Return how many devices score at once: as many as were asked for, else all GPUs of this machine.

    Raises:
        ValueError: this machine has fewer GPUs, or another engine starts the workers, of which each has one device.
    """
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions  # a device's process needs no Beam

    if options.view_as(StandardOptions).runner or options.view_as(DirectOptions).direct_num_workers != 1:
        if num_devices not in (None, 1):
            raise ValueError(
                f"devices must be left out where Beam starts the workers, got {num_devices}; each worker scores on one "
                f"GPU: start as many as there are"
            )
        return 1
    num_gpus = count_gpus()
    if num_devices is not None and 0 < num_gpus < num_devices:
        raise ValueError(f"devices must be at most the {num_gpus} GPUs of this machine, got {num_devices}")
    return num_devices or max(1, num_gpus)


def score_on_devices(job: ScoringJob, num_devices: int, tasks: Iterable[ShardTask]) -> Iterator[Outcome]:
    """Yield what became of each shard, as they are done; each process takes the next shard when it can.

    Processes are spawned and import the program's main module: a script must have its call behind
    `if __name__ == "__main__"`.

    Raises:
        OSError: a process ended before its shards were done.
    """
    context = multiprocessing.get_context("spawn")
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    links: dict[Connection, SpawnProcess] = {}
    try:
        with block_interrupts():
            for device in range(num_devices):
                link, its_link = context.Pipe()
                arguments = (its_link, job, device, num_devices, log.is_json(), levels)
                process = context.Process(target=_run, args=arguments, name=f"device {device}", daemon=True)
                process.start()
                links[link] = process
                its_link.close()
        yield from _serve(links, iter(tasks))
    finally:
        for process in links.values():
            process.terminate()
        for process in links.values():
            process.join(_STOP_SECONDS)
            process.kill()


def _serve(links: dict[Connection, SpawnProcess], tasks: Iterator[ShardTask]) -> Iterator[Outcome]:
    """Answer what the processes send until all have ended."""
    open_links = set(links)
    while open_links:
        for link in wait(list(open_links)):
            assert isinstance(link, Connection)
            match _receive(link, links[link]):
                case "next":
                    link.send(next(tasks, None))
                case "done":
                    open_links.remove(link)
                case Outcome() as outcome:
                    yield outcome
                case BaseException() as error:
                    raise error
                case num_scans, num_bytes:
                    progress.advance("score", num_scans, num_bytes)


def _receive(link: Connection, process: SpawnProcess) -> Any:
    try:
        return link.recv()
    except (EOFError, ConnectionResetError):
        process.join(_STOP_SECONDS)
        raise OSError(
            f"process of a device must live until its shards are done, got {process.name} ended with exit code "
            f"{process.exitcode}; it was killed, or memory ran out"
        ) from None


def _run(
    link: Connection, job: ScoringJob, device: int, num_devices: int, is_json: bool, levels: dict[str, int]
) -> None:
    """Score shards until there is no more; all that there is to say goes through the link."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its processes
    logging.basicConfig(format=log.TEXT_FORMAT)
    log.use_format("json" if is_json else "text")
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    _hide_other_devices(device)
    lock = threading.Lock()

    def send(message: object) -> None:
        with lock:
            link.send(message)

    def ask() -> ShardTask | None:
        send("next")
        task: ShardTask | None = link.recv()
        return task

    try:
        from model.scoring.scorer import Scorer

        scorer = Scorer(load_network(job, device, num_devices))
        for outcome in score_tasks(scorer, job.model_id, iter(ask, None), lambda *counts: send(counts)):
            send(outcome)
        send("done")
    except (BrokenPipeError, ConnectionResetError, EOFError):
        return  # the command has ended
    except Exception as error:
        send(_as_sendable(error))


def _hide_other_devices(device: int) -> None:
    """Let this process see one GPU, its own, before CUDA looks."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = shown.split(",") if shown else [str(device)] * (device + 1)
    os.environ["CUDA_VISIBLE_DEVICES"] = names[device % len(names)]


def _as_sendable(error: Exception) -> Exception:
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class takes other arguments than it passes on
        return RuntimeError(repr(error))
    return error
