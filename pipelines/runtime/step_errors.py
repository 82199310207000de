"""Recover the error of a step from the text in which a Beam runner reports it."""

import builtins
import re


def find_step_error(text: str) -> Exception | None:
    """Return the ValueError or OSError that a step raised, as what it was; None if the text holds none.

    The embedded runner raises an OSError of a step as RuntimeError("OSError: [Errno 28] … [while running 'Step']"),
    with a traceback before it if a worker process raised it; other engines put pages of Java around it.
    """
    found = re.findall(r"^(\w+): (.*?) \[while running '([^']+)'", text, re.DOTALL | re.MULTILINE)
    if not found:
        return None
    name, message, step = found[-1]
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, (ValueError, OSError)):
        return kind(f"{message} (step {step})")
    return None


def find_cause(text: str) -> Exception:
    """Return what failed, from what an engine reports of a failed job.

    What no step raised (a lost machine, too few slots, too little memory) is an OSError: the same command may be run
    again. An error of a step that is neither ValueError nor OSError is a bug, and a RuntimeError.
    """
    if (error := find_step_error(text)) is not None:
        return error
    if "[while running '" in text:
        return RuntimeError(text)
    return OSError(f"job must run to its end on its engine, got: {text.strip().partition(chr(10))[0]}")
