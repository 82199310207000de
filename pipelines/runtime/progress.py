"""Show the progress of a job, its rate and the time left: a bar on a terminal, plain lines elsewhere.

Steps of a Beam job report by label, `progress.advance("score", 64)`. If the job runs in this process (the embedded
runner), the open progress of that label moves; on a worker elsewhere none is open and the call does nothing.
"""

import sys
import threading
import time
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipelines.runtime import log

HEARTBEAT_SECONDS = 10.0
"""Between plain lines: a log of a night's run stays readable."""

_open: dict[str, "Progress"] = {}


def advance(label: str, num: int, num_bytes: int = 0) -> None:
    """Report `num` more units of the job called `label`; does nothing if no such progress is open."""
    if (progress := _open.get(label)) is not None:
        progress.advance(num, num_bytes)


def begin(label: str, phase: str, total: int | None = None) -> None:
    """Begin a phase of the job called `label`; does nothing within the same phase."""
    if (progress := _open.get(label)) is not None:
        progress.begin(phase, total)


class Progress:
    """Shows a job's progress on stderr while its `with` block runs; threads may report at once."""

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str = "scans",
        *,
        stream: IO[str] | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Make a progress that shows nothing yet.

        Args:
            label: what steps name in `advance`.
            total: units at the end; None if unknown, then no time left is shown.
            unit: plural, as in "scans".
            stream: stderr by default; a bar where it is a terminal.
            heartbeat_seconds: between plain lines.
        """
        self.label = label
        self.total = total
        self.unit = unit
        self.num_done = 0
        self.num_bytes = 0
        self.phase = ""
        self._stream = stream
        self._heartbeat_seconds = heartbeat_seconds
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._bar: Bar | None = None
        self._started = self._phase_started = time.monotonic()

    def __enter__(self) -> "Progress":
        stream = self._stream or sys.stderr
        self._started = self._phase_started = time.monotonic()
        _open[self.label] = self
        if stream.isatty() and not log.is_json():
            self._bar = _make_bar(stream)
            self._task = self._bar.add_task(self._title(), total=self.total, rate="")
            self._bar.start()
        else:
            self._thread = threading.Thread(target=self._beat, args=(stream,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _open.pop(self.label, None)
        if self._bar is not None:
            self._bar.stop()
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            outcome = "done" if kind is None else f"stopped by {kind.__name__}"
            log.status(f"{self.line()}; {outcome}", stream=self._stream, **self._facts(), outcome=outcome)

    def begin(self, phase: str, total: int | None = None) -> None:
        """Begin a phase with its own counts, rate and time left; does nothing within the same phase."""
        with self._lock:
            if phase == self.phase:
                return
            self.phase, self.total = phase, total
            self.num_done = self.num_bytes = 0
            self._phase_started = time.monotonic()
            if self._bar is not None:
                self._bar.reset(self._task, total=total, description=self._title(), rate="")

    def advance(self, num: int, num_bytes: int = 0) -> None:
        """Report `num` more units, and `num_bytes` that were read or written for them."""
        with self._lock:
            self.num_done += num
            self.num_bytes += num_bytes
            if self._bar is not None:
                self._bar.update(self._task, advance=num, rate=self._rate())

    @property
    def elapsed_seconds(self) -> float:
        """Since the `with` began, all phases together."""
        return time.monotonic() - self._started

    def line(self) -> str:
        """Return the plain line: units, rate, time spent and left."""
        if not self.num_done:  # just begun, or its workers run in other processes, which cannot report
            return f"{self._title()}: no {self.unit} reported, {_clock(self.elapsed_seconds)}"
        of_total = f" of {self.total}" if self.total is not None else ""
        line = f"{self._title()}: {self.num_done}{of_total} {self.unit}, {self._rate()}, {_clock(self.elapsed_seconds)}"
        if self.total is None or not 0 < self.num_done < self.total:
            return line
        left_seconds = self._phase_seconds() * (self.total - self.num_done) / self.num_done
        return f"{line}, {_clock(left_seconds)} left"

    def _title(self) -> str:
        return f"{self.label}, {self.phase}" if self.phase else self.label

    def _phase_seconds(self) -> float:
        return max(time.monotonic() - self._phase_started, 1e-9)

    def _rate(self) -> str:
        seconds = self._phase_seconds()
        rate = f"{self.num_done / seconds:.1f} {self.unit}/s"
        if not self.num_bytes:
            return rate
        return f"{decimal(self.num_bytes)}, {rate}, {decimal(int(self.num_bytes / seconds))}/s"

    def _facts(self) -> dict[str, Any]:
        return {
            "job": self.label,
            "phase": self.phase,
            f"num_{self.unit}": self.num_done,
            "total": self.total,
            "num_bytes": self.num_bytes,
            "seconds": round(self.elapsed_seconds, 3),
        }

    def _beat(self, stream: IO[str]) -> None:
        while not self._stopped.wait(self._heartbeat_seconds):
            log.status(self.line(), stream=stream, **self._facts())


def _make_bar(stream: IO[str]) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
