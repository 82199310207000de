"""What holds for every test."""

import pytest

from pipelines import processes
from tests.processes import PRELOADED


@pytest.fixture(autouse=True)
def work_in_this_process(monkeypatch):
    """Have jobs do their work in the test's own process: what a test replaces is replaced there too."""
    monkeypatch.setattr(processes, "MAX_PROCESSES", 1)
    # There is one server that processes are forked from, whoever asks for it first.
    monkeypatch.setattr(processes, "_PRELOADED", PRELOADED)
