"""What stands for the process of a device: imports neither PyTorch nor DALI, so it starts in a moment."""

import os
import time
from typing import Any

from pipelines.steps.score_shards import Outcome


def die_at_once(link, job, device, *_):
    """End as a process that is killed."""
    os._exit(9)


def fail_at_once(link, job, device, *_):
    """Fail as where the model cannot be used."""
    link.send(ValueError(f"model must be another, got {job} on device {device}"))


def take_and_report(link, job, device, *_):
    """Take shards, and tell who took which; the first process is slow."""
    while True:
        link.send("next")
        if (task := link.recv()) is None:
            break
        time.sleep(0.5 if device == 0 else 0.01)
        link.send((7, 100))
        who: Any = (device, task)
        link.send(Outcome(who))
    link.send("done")
