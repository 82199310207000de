"""Share the in-memory store of these tests."""

import fsspec
import pytest


@pytest.fixture
def memory():
    """An empty store in memory, which fsspec shares by class."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
