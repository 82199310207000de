"""Servers on loopback for tests: an S3 store, and a proxy before it that fails according to a plan."""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

S3_SERVER_VARIABLE = "SIXRAY_S3_SERVER"
"""Path of a `versitygw` to test against; moto's server if unset."""
ACCESS_KEY, SECRET_KEY = "key-of-tests", "never-to-be-shown"


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    url: str
    pid: int


@contextlib.contextmanager
def run_s3(folder: Path) -> Iterator[Server]:
    """Run an S3 server until the block ends; it may keep files in `folder`."""
    program = os.environ.get(S3_SERVER_VARIABLE)
    with _run_versitygw(program, folder) if program else _run_moto() as server:
        yield server


@contextlib.contextmanager
def _run_moto() -> Iterator[Server]:
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with _run(words, {}, r"Running on (http://127\.0\.0\.1:\d+)") as (url, pid):
        yield Server("moto", url, pid)


@contextlib.contextmanager
def _run_versitygw(program: str, folder: Path) -> Iterator[Server]:
    # versitygw prints its port only if one is given: take one that is free now.
    port = _free_port()
    keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    words = [program, "--port", f"127.0.0.1:{port}", "--region", "us-east-1", "posix", str(folder)]
    with _run(words, keys, r"(127\.0\.0\.1:\d+)") as (_, pid):
        yield Server("versitygw", f"http://127.0.0.1:{port}", pid)


@contextlib.contextmanager
def _run(words: list[str], variables: dict[str, str], ready: str) -> Iterator[tuple[str, int]]:
    """Start a server, wait for the line that says it is ready, and stop it when the block ends."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | variables
    ) as server:
        try:
            assert server.stdout is not None
            said = []
            for line in server.stdout:
                said.append(line)
                if found := re.search(ready, line):
                    break
            else:
                raise RuntimeError(f"{words[0]} ended before it was ready: {''.join(said)}")
            # A pipe that is not read fills up and blocks the server.
            drain = threading.Thread(target=lambda: [None for _ in server.stdout or ()], daemon=True)
            drain.start()
            yield found.group(1), server.pid
        finally:
            server.kill()
    drain.join()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Plan:
    """Faults of a proxy; may be changed while it runs."""

    refuse_connections: bool = False
    answer_503: int = 0
    """Number of requests answered `503 Service Unavailable`; -1: all."""
    cut_after_bytes: int = 0
    """A connection is cut after this many bytes of answers; 0: never."""
    cuts_left: int = 0
    """Number of connections to cut; -1: all."""
    delay_seconds: float = 0
    let_pass: int = 0
    """Number of requests that pass before the first fault."""
    seen: list[str] = field(default_factory=list)
    """Events so far: pass, 503, cut, refuse."""


@contextlib.contextmanager
def run_proxy(target: str, plan: Plan) -> Iterator[str]:
    """Run a TCP proxy before a server in a thread; yield its URL."""
    host, _, port = target.removeprefix("http://").partition(":")
    is_up = threading.Event()
    found: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(
            lambda reader, writer: _relay(reader, writer, host, int(port), plan), "127.0.0.1", 0
        )
        found.append((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        is_up.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    is_up.wait()
    ((loop, stop, own_port),) = found
    try:
        yield f"http://127.0.0.1:{own_port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, plan: Plan) -> None:
    """Forward the requests and answers of one connection according to the plan."""
    upstream: asyncio.StreamWriter | None = None
    try:
        if plan.refuse_connections and _is_due(plan):
            plan.seen.append("refuse")
            return
        answers, upstream = await asyncio.open_connection(host, port)
        back = asyncio.create_task(_carry_back(answers, writer, plan))
        while head := await _read_head(reader):
            length = int(found.group(1)) if (found := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)) else 0
            if re.search(rb"(?i)\r\nexpect: *100-continue", head) and (plan.answer_503 == 0 or not _is_due(plan)):
                head = re.sub(rb"(?i)\r\nexpect: *100-continue", b"", head)
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if plan.answer_503 and _is_due(plan):
                plan.answer_503 -= plan.answer_503 > 0
                plan.seen.append("503")
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            plan.let_pass -= plan.let_pass > 0
            plan.seen.append("pass")
            await asyncio.sleep(plan.delay_seconds)
            upstream.write(head)
            while length > 0 and (data := await reader.read(min(length, 65536))):
                upstream.write(data)
                await upstream.drain()
                length -= len(data)
        back.cancel()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        return  # one of the two has gone, or the proxy ends
    finally:
        for one in (writer, upstream):
            if one is not None:
                one.close()


def _is_due(plan: Plan) -> bool:
    return plan.let_pass == 0


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def _carry_back(answers: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: Plan) -> None:
    carried = 0
    with contextlib.suppress(ConnectionError):
        while data := await answers.read(65536):
            if plan.cuts_left and plan.cut_after_bytes and carried + len(data) > plan.cut_after_bytes and _is_due(plan):
                plan.cuts_left -= plan.cuts_left > 0
                plan.seen.append("cut")
                writer.write(data[: plan.cut_after_bytes - carried])
                writer.transport.abort() if carried else writer.close()
                return
            carried += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()
