"""Start, find and stop servers; a file per server names its process and group."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STOP_SECONDS = 10.0
"""Between SIGTERM and SIGKILL."""

_SESSION, _STARTED = 3, 19
"""Field positions in /proc/<pid>/stat, counted from the state."""

_children: dict[int, "subprocess.Popen[bytes]"] = {}
"""Servers started by this process: they stay zombies until it waits for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server: its command and its readiness check."""

    name: str
    words: Sequence[str]
    variables: Mapping[str, str]
    """Added to the environment."""
    is_ready: Callable[[], bool]


def start(service: Service, folder: Path) -> None:
    """Start a server in its own session, unless it already runs.

    Its pid stands in `<name>.pid`, what it says in `<name>.log`. What is left of one that died is ended first: once
    its record is overwritten nobody finds it.
    """
    if pid_of(service.name, folder) is not None:
        return
    stop(service.name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            list(service.words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(service.variables),
            start_new_session=True,
        )
    _children[process.pid] = process
    record = {"pid": process.pid, "started": _start_of(process.pid)}
    (folder / f"{service.name}.pid").write_text(json.dumps(record))


def await_ready(services: Sequence[Service], folder: Path, limit_seconds: float) -> None:
    """Wait until all servers respond.

    Raises:
        RuntimeError: one has ended.
        TimeoutError: one does not serve in time.
    """
    until = time.monotonic() + limit_seconds
    for service in services:
        while not service.is_ready():
            log = folder / f"{service.name}.log"
            if pid_of(service.name, folder) is None:
                raise RuntimeError(f"{service.name} must run until it is stopped, it ended: {_tail(log)} ({log})")
            if time.monotonic() > until:
                raise TimeoutError(f"{service.name} must serve within {limit_seconds:.0f} s: {_tail(log)} ({log})")
            time.sleep(0.2)


def pid_of(name: str, folder: Path) -> int | None:
    """Return the process id of a server, None if it has ended, also if its id has been reused."""
    record = _read_record(name, folder)
    if record is None:
        return None
    started = _start_of(record["pid"])
    return int(record["pid"]) if started and started == record["started"] else None


def started_in(folder: Path) -> list[str]:
    """Return the names of the servers started from a folder, the latest first."""
    files = sorted(folder.glob("*.pid"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.stem for path in files]


def kill(name: str, folder: Path) -> None:
    """Kill a server and all its descendants."""
    if (pid := pid_of(name, folder)) is not None:
        _end_session(pid, signal.SIGKILL)


def stop(name: str, folder: Path) -> bool:
    """Stop a server and all its descendants; return whether it ran."""
    pid = pid_of(name, folder)
    if pid is not None:
        _end_session(pid, signal.SIGTERM)
    record = _read_record(name, folder)
    if record is not None and not _is_taken(record):
        _end_session(record["pid"], signal.SIGKILL)  # children outlive a server that was killed
    (folder / f"{name}.pid").unlink(missing_ok=True)
    return pid is not None


def members_of(session: int) -> list[int]:
    """Return the processes of a session: a server and its descendants in all process groups."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        pid = int(stat.parent.name)
        fields = _stat_of(pid)
        if fields and int(fields[_SESSION]) == session:
            found.append(pid)
    return found


def serves_tcp(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a loopback port accepts connections."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((host, port)) == 0


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _end_session(session: int, number: signal.Signals) -> None:
    """Send a signal to every process of a session; wait until all have ended or the time is over."""
    for pid in members_of(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    until = time.monotonic() + STOP_SECONDS
    while time.monotonic() < until:
        if not members_of(session):
            if session in _children:
                _children.pop(session).wait()
            return
        time.sleep(0.05)


def _read_record(name: str, folder: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((folder / f"{name}.pid").read_text())
    except FileNotFoundError:
        return None
    return record


def _is_taken(record: dict[str, Any]) -> bool:
    """Return whether a server's process id has been reused; Linux reuses none that is still a session's id."""
    fields = _read_stat(record["pid"])
    return bool(fields) and fields[_STARTED] != record["started"]


def _start_of(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; empty if it has ended."""
    fields = _stat_of(pid)
    return fields[_STARTED] if fields else ""


def _stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the name, none for a dead process."""
    fields = _read_stat(pid)
    return [] if fields and fields[0] in "ZX" else fields


def _read_stat(pid: int) -> list[str]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:]) if log.exists() else "it said nothing"
