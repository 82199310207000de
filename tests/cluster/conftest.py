"""Fixtures of the cluster tests: one cluster, and the embedded runner's dataset to compare with."""

import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from deploy.local.cluster import Cluster, make_config
from deploy.local.fetch import CLUSTER, fetch
from deploy.local.services import Ports
from tests.cluster.site import Result, Site, convert_words
from tests.corpora import jpeg_bytes, make_corpus
from tests.pipelines.scoring import make_model
from tests.services import Plan, run_proxy


def pytest_collection_modifyitems(items):
    """All tests of this folder need the cluster's programs."""
    for item in items:
        if "tests/cluster" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    """A cluster of two TaskManagers on free ports, a corpus and a model in its store."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or a session that is asked to end leaves its cluster
    fetch([*CLUSTER, "prism"])
    ports, plan = Ports.free(), Plan()
    folder = tmp_path_factory.mktemp("cluster")
    with run_proxy(f"http://127.0.0.1:{ports.s3}", plan) as proxy:
        cluster = Cluster(replace(make_config(folder, ports, 2), store_url=proxy))
        try:
            cluster.up()
            site = Site(cluster, plan)
            corpus = make_corpus(site.bucket / "corpus", num_train=400, num_test=80)
            corpus.add_row("N90000")
            corpus.add_image("N90001", b"")
            corpus.add_image("N90002", jpeg_bytes(1)[:-50])
            corpus.add_image("same", (corpus.images / "N00001.jpg").read_bytes())
            make_model(site.bucket / "model")
            yield site
        finally:
            cluster.down()


@pytest.fixture(params=["flink", "prism"])
def engine(site: Site, request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """The name of an engine and its Beam options."""
    return request.param, getattr(site, request.param)


@pytest.fixture(scope="session")
def on_flink(site: Site, flink_jobs) -> Callable[..., tuple[Result, dict[str, Any]]]:
    """Run a command on Flink once a session; return its result and Flink's description of the job."""
    done: dict[tuple[str, ...], tuple[Result, dict[str, Any]]] = {}

    def run(*words: str) -> tuple[Result, dict[str, Any]]:
        if words not in done:
            result = site.run(*words, beam=[*site.flink, f"--job_name=sixray-{words[0]}"])
            done[words] = result, flink_jobs()[0]
        return done[words]

    return run


@pytest.fixture(scope="session")
def dataset(site: Site) -> dict[str, bytes]:
    """The files of the embedded runner's dataset, in the folder `embedded`."""
    result = site.run(*convert_words(site, "embedded"))
    assert result.code == 0, result.log
    files = site.files("embedded")
    assert sum(name.endswith(".tar") for name in files) > 20
    return files


@pytest.fixture
def lame(site: Site) -> Iterator[Plan]:
    """The proxy's plan; reset when the test ends."""
    yield site.plan
    for name, value in vars(Plan()).items():
        setattr(site.plan, name, value)


@pytest.fixture(scope="session")
def flink_get(site: Site) -> Callable[[str], Any]:
    """Query Flink's REST API."""

    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{site.cluster.config.flink_url}{path}", timeout=10) as answer:
            return json.load(answer)

    return get


@pytest.fixture(scope="session")
def flink_jobs(flink_get) -> Callable[[], list[dict[str, Any]]]:
    """List Flink's jobs, the latest first."""
    return lambda: sorted(flink_get("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])
