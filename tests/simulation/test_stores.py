"""No conversion into a store loses or makes up anything, whatever befalls its requests."""

import pytest

from tests.corpora import make_corpus
from tests.shards.plain_calls import convert_plainly, verify_plainly
from tests.simulation.store import DISHONEST, HONEST, STORE, JobKilledError

URL = "simulated://bucket/dataset"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("stores") / "corpus", num_train=9, num_test=3).root


def convert(corpus):
    convert_plainly(corpus, URL, shard_bytes=4_000)


@pytest.fixture(scope="module")
def undisturbed(corpus):
    STORE.objects.clear()
    convert(corpus)
    return dict(STORE.objects)


def live(corpus, seed, kinds, share):
    """Run a conversion until it says that it is done; return whether it was done at once."""
    for life in range(200):
        try:
            with STORE.trouble(seed * 1000 + life, kinds, share):
                convert(corpus)
        except (JobKilledError, OSError, ValueError) as error:
            if isinstance(error, ValueError):  # a clear refusal
                assert "run the job again" in str(error) or "sixray convert" in str(error), f"seed {seed}: {error}"
            elif isinstance(error, FileNotFoundError):
                assert "lost" in kinds, f"seed {seed}: {error!r} after {STORE.trace}"
            if "bucket/dataset/dataset.json" in STORE.objects and "lost" not in kinds:
                assert verify_plainly(URL) == [], f"seed {seed}: {STORE.trace}"
            continue
        return
    raise AssertionError(f"seed {seed}: it did not end in 200 lives")


@pytest.mark.parametrize("seed", range(12))
def test_a_conversion_into_a_store_that_fails_as_stores_do_ends_with_the_same_bytes(corpus, undisturbed, seed):
    STORE.objects.clear()
    live(corpus, seed, HONEST, 0.03)
    assert undisturbed == STORE.objects, f"seed {seed}"
    assert verify_plainly(URL) == []


@pytest.mark.parametrize("seed", range(12))
def test_what_a_store_confirmed_and_lost_is_noticed_and_made_again(corpus, undisturbed, seed):
    STORE.objects.clear()
    live(corpus, seed, DISHONEST, 0.2)
    if undisturbed != STORE.objects and "bucket/dataset/dataset.json" in STORE.objects:
        assert verify_plainly(URL) != [], f"seed {seed}: {STORE.trace}"
    convert(corpus)
    assert undisturbed == STORE.objects, f"seed {seed}"


def test_the_same_seed_brings_the_same_trouble(corpus):
    traces = []
    for _ in range(2):
        STORE.objects.clear()
        live(corpus, 3, HONEST, 0.03)
        traces.append(list(STORE.trace))
    assert traces[0] == traces[1]
