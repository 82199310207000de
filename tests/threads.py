"""Limit a module's networks to one thread: import `one_thread`."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread, here and in started processes: tiny networks lose time to synchronisation.

    The number of threads also changes the last bits of a sum.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)
