"""Settings of all tests."""

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from pipelines.runtime import process_pool
from tests.processes import COMMANDS, PRELOADED

# Here and in started processes, before PyTorch is loaded: tiny networks lose time to threads that wait for each other,
# and the number of threads changes the last bits of a sum.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("dev", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=10)
settings.load_profile("dev")


# Tests of whole commands, of training, of statistics over many draws, and of a browser.
SLOW = (
    "golden",
    "integration",
    "model/artifacts/test_export.py",
    "model/metrics/test_guarantees.py",
    "model/reports/test_page_in_browser.py",
    "model/training/test_module.py",
    "model/training/test_train_sxmnet.py",
    "model/training/test_trainer.py",
    "pipelines/phantom/test_likeness.py",
    "pipelines/test_corrections.py",
    "pipelines/test_project.py",
    "pipelines/test_quantize.py",
    "pipelines/test_reproduce.py",
    "pipelines/test_score_trouble.py",
)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests of slow folders and files."""
    slow = [Path(__file__).parent / name for name in SLOW]
    assert all(path.exists() for path in slow)
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Prepare Beam, PyTorch and the garbage collector, when all tests are imported."""
    if sys.modules.keys() & {"apache_beam", *COMMANDS}:
        from tests import beam_cache

        beam_cache.install()
    if "torch" in sys.modules:
        from torch import ones

        # Begun after torch.compile, autograd has threads, and then no fork of this process can compute gradients.
        ones(1, requires_grad=True).sum().backward()
    # Or each full collection looks through the 650,000 objects of all modules again: 4 s of 47 in the tests of reshard.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let modules be freed at the end, or libraries report their own functions as leaked."""
    gc.unfreeze()


def pytest_configure(config: pytest.Config) -> None:
    """Run jobs, including those of fixtures, in the tests' own process, so that monkeypatching reaches them.

    Only a run of `tests/gpu` sees GPUs: all other tests compare the bits that a processor gives.
    """
    if not hasattr(config, "workerinput") and not any("gpu" in word for word in config.args):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    process_pool.MAX_PROCESSES = 1
    os.fdatasync = os.fsync = lambda fd: None  # a file of a test need not outlive a power cut
    # One fork server serves all tests, whoever starts it.
    process_pool._PRELOADED = PRELOADED
