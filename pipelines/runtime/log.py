"""Write status lines and events of steps: plain text for people, or JSON, one object a line, for machines."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any

FORMATS = ("text", "json")
_chosen = "text"


def use_format(name: str) -> None:
    """Choose the format of this process's lines from now on: one of `FORMATS`."""
    global _chosen
    assert name in FORMATS
    if name == _chosen:
        return
    _chosen = name
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_JsonFormatter() if name == "json" else logging.Formatter(TEXT_FORMAT))


def is_json() -> bool:
    """Return whether lines are JSON objects."""
    return _chosen == "json"


def status(text: str, *, stream: IO[str] | None = None, **facts: Any) -> None:
    """Write one line to stderr (or `stream`): the text, or an object with `time`, `message` and the facts."""
    line = _to_json(text, facts) if is_json() else text
    print(line, file=stream or sys.stderr, flush=True)


_steps = logging.getLogger("sixray")
"""For steps on workers, whose log an engine keeps; below the level that a command's own process shows."""


def logs_events() -> bool:
    """Return whether `event` writes anything in this process."""
    return _steps.isEnabledFor(logging.INFO)


def event(text: str, **facts: Any) -> None:
    """Write what a step did to its worker's log: the text, then the facts as `job=… shard=… key=…`."""
    _steps.info("%s: %s", text, " ".join(f"{name}={value}" for name, value in facts.items()), extra={"facts": facts})


TEXT_FORMAT = "%(levelname)s %(name)s: %(message)s"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {"level": record.levelname.lower(), "logger": record.name}
        facts |= getattr(record, "facts", {})
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return _to_json(record.getMessage(), facts)


def _to_json(text: str, facts: dict[str, Any]) -> str:
    return json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "message": text} | facts)
