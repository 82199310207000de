"""What holds for every test."""

from pipelines.runtime import process_pool
from tests.processes import PRELOADED


def pytest_configure() -> None:
    """Have jobs do their work in the tests' own process, fixtures' jobs too: what a test replaces is replaced there.

    There is one server that other processes are forked from, whoever asks for it first.
    """
    process_pool.MAX_PROCESSES = 1
    process_pool._PRELOADED = PRELOADED
