"""Settings of all tests."""

import os

from hypothesis import settings

from pipelines.runtime import process_pool
from tests.processes import PRELOADED

# Here and in started processes, before PyTorch is loaded: tiny networks lose time to threads that wait for each other,
# and the number of threads changes the last bits of a sum.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("dev", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=10)
settings.load_profile("dev")


def pytest_configure() -> None:
    """Run jobs, including those of fixtures, in the tests' own process, so that monkeypatching reaches them."""
    process_pool.MAX_PROCESSES = 1
    # One fork server serves all tests, whoever starts it.
    process_pool._PRELOADED = PRELOADED
