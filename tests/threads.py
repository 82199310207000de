"""How many threads does a test's network get? One: a module imports `one_thread` to have it so."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """A network of milliseconds loses more to threads that wait for each other than it gains by them.

    Here and in the processes that tests start: the number of threads changes the last bits of a sum.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)
