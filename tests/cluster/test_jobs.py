"""Tests that Flink and Prism, from and to an S3 store, give the bytes of the embedded runner."""

import json
import re

import pytest

from tests.cluster.site import convert_words
from tests.corpora import CorpusWriter


def score_words(site, output, dataset="embedded"):
    urls = ["--model", site.url("model"), "--input", site.url(dataset), "--output", site.url(output)]
    return ["score", *urls, "--engine=eager", "--dtype=float32", "--batch-size=4", "--max-quarantine-fraction=1"]


@pytest.fixture(scope="module")
def predictions(site, dataset):
    """The files of the embedded runner's predictions."""
    result = site.run(*score_words(site, "scored"))
    assert result.code == 0, result.log
    return site.files("scored")


@pytest.fixture
def run_on(site, on_flink, engine):
    """Run a command on the engine."""
    name, beam = engine
    return lambda *words: on_flink(*words)[0] if name == "flink" else site.run(*words, beam=beam)


def test_convert_gives_the_same_bytes(site, dataset, engine, run_on):
    name, _ = engine
    result = run_on(*convert_words(site, f"{name}-ds"))
    assert result.code == 0, result.log
    assert site.files(f"{name}-ds") == dataset
    assert re.search(r"train: \d+ listed = \d+ converted \+ \d+ quarantined", result.out)


# On Flink alone: reshard writes by the steps of convert, verify is one step, and a second run starts no job.
def test_reshard_on_flink_gives_the_same_bytes(site, dataset):
    words = ["reshard", "--input", site.url("embedded"), "--shard-bytes=40000", "--where", "labels.Gun = 1"]
    for output, runner in (("reshard-embedded", ()), ("reshard-flink", site.flink)):
        result = site.run(*words, "--output", site.url(output), beam=runner)
        assert result.code == 0, result.log
    assert site.files("reshard-flink") == site.files("reshard-embedded")


def test_verify_on_flink_finds_the_same_damage(site, dataset):
    words = ["verify", "--report", site.url("report.json"), site.url("damaged")]
    site.put("damaged", dataset)
    whole = site.run(*words, beam=site.flink)
    assert whole.code == 0 and whole.out.startswith("whole:"), whole.log
    hit, gone = sorted(file for file in dataset if file.endswith(".tar"))[:2]
    (site.bucket / "damaged" / hit).write_bytes(dataset[hit][:700] + b"x" + dataset[hit][701:])
    (site.bucket / "damaged" / gone).unlink()
    found = site.run(*words, beam=site.flink)
    assert found.code == 1
    assert found.out == site.run("verify", site.url("damaged")).out
    assert len(json.loads((site.bucket / "report.json").read_bytes())) == len(found.out.splitlines())


def test_score_gives_the_same_predictions(site, predictions, engine, run_on):
    name, _ = engine
    result = run_on(*score_words(site, f"scored-{name}"))
    assert result.code == 0, result.log
    found = site.files(f"scored-{name}")
    assert found.keys() == predictions.keys()
    for file, data in predictions.items():
        if file.endswith("run.json"):
            ours, theirs = json.loads(data), json.loads(found[file])
            untimed = {"timings": None, "longest_run": None}
            assert ours | untimed == theirs | untimed
            assert theirs["longest_run"] == theirs["timings"]
            assert ours["timings"]["counters"] == theirs["timings"]["counters"]
        else:
            assert found[file] == data, file


def test_a_second_run_on_flink_finds_nothing_to_do(site, dataset, on_flink):
    words = score_words(site, "scored-flink")
    on_flink(*words)
    before = site.files("scored-flink")
    result = site.run(*words, beam=site.flink)
    assert (result.code, site.files("scored-flink")) == (0, before), result.log


def test_an_input_that_a_step_refuses_is_wrong_usage_there_too(site, engine):
    name, beam = engine
    corpus = CorpusWriter(site.bucket / "other-release")
    for number in range(40):
        corpus.add_scan(f"P{number:05d}", ["Gun"])
        corpus.add_annotation(f"P{number:05d}", [("Knife", 1, 2, 20, 25)])
    words = ["convert", "--input", site.url("other-release"), "--output", site.url(f"refused-{name}")]
    for runner in ((), beam):
        result = site.run(*words, beam=runner)
        assert result.code == 2, result.log
        assert "the lists belong to another release of the corpus" in result.log
    assert not (site.bucket / f"refused-{name}").exists()
