"""A corpus that several tests only read."""

import pytest

from tests.corpora import CorpusWriter, make_corpus


@pytest.fixture(scope="package")
def corpus(tmp_path_factory) -> CorpusWriter:
    """A sound corpus of 40 train and 6 test scans, for reading alone."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), num_train=40, num_test=6)
