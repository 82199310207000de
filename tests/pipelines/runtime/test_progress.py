"""Test the progress of a job, wherever its steps run."""

import io
import pickle
import threading
import time

import pytest

from pipelines.runtime import progress
from pipelines.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_last_plain_line_says_how_many_and_how_fast():
    stream = io.StringIO()
    with Progress("score", total=3, unit="scans", stream=stream) as shown:
        shown.advance(2, num_bytes=10)
        shown.advance(1)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("score: 3 of 3 scans, ")
    assert "10 bytes" in last and "scans/s" in last and "/s, 0:00:00; done" in last


def test_a_heartbeat_says_how_long_is_left():
    stream = io.StringIO()
    with Progress("score", total=100, stream=stream, heartbeat_seconds=0.01) as shown:
        shown.advance(50)
        deadline = time.monotonic() + 10
        while "left" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "score: 50 of 100 scans" in stream.getvalue()
    assert " left\n" in stream.getvalue()


def test_without_a_total_no_time_left_is_guessed():
    shown = Progress("convert", unit="scans")
    shown.advance(5)
    assert "5 scans" in shown.line()
    assert "left" not in shown.line()


def test_an_error_is_named_in_the_last_line():
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress("score", stream=stream):
        raise KeyError("x")
    assert stream.getvalue().endswith("stopped by KeyError\n")


def test_workers_elsewhere_are_not_taken_for_workers_that_do_nothing():
    stream = io.StringIO()
    with Progress("score", total=7, stream=stream):
        pass
    assert stream.getvalue() == "score: no scans reported, 0:00:00; done\n"


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with Progress("score", total=2, stream=stream) as shown:
        shown.advance(2)
    assert "2/2" in stream.getvalue()


def test_threads_that_report_at_once_lose_nothing():
    def report() -> None:
        for _ in range(1000):
            progress.advance("score", 1, 2)

    with Progress("score", stream=io.StringIO()) as shown:
        threads = [threading.Thread(target=report) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (shown.num_done, shown.num_bytes) == (8000, 16000)


def test_a_report_where_nothing_is_open_changes_nothing_and_its_function_travels():
    pickle.loads(pickle.dumps(progress.advance))("score", 1)
    with Progress("convert", stream=io.StringIO()) as shown:
        progress.advance("score", 1)
    progress.advance("convert", 1)
    assert shown.num_done == 0


def test_each_phase_counts_for_itself_and_is_begun_once():
    stream = io.StringIO()
    with Progress("convert", stream=stream) as shown:
        progress.begin("convert", "listing")
        progress.advance("convert", 7, 700)
        assert shown.line().startswith("convert, listing: 7 scans, 700 bytes, ")
        progress.begin("convert", "writing", 4)
        progress.advance("convert", 2)
        progress.begin("convert", "writing", 4)
    assert (shown.num_done, shown.num_bytes, shown.total) == (2, 0, 4)
    assert "convert, writing: 2 of 4 scans, " in stream.getvalue()


def test_a_bar_begins_anew_with_each_phase():
    stream = Terminal()
    with Progress("convert", stream=stream) as shown:
        shown.begin("listing")
        shown.advance(5, 10)
        shown.begin("writing", 3)
        shown.advance(3, 10)
    assert "convert, writing" in stream.getvalue()
    assert "3/3" in stream.getvalue()
