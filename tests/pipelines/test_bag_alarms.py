"""Test that `sixray alarms --by group` lists bags by their fused score, each with all its views."""

import json
from operator import gt

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.metrics.operating_points import sigmoid
from pipelines import cli
from pipelines.steps.list_alarms import ScoredShards
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions
from tests.pipelines.bag_corpus import ITEMS, NUM_PAIRS, TwoViews


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return TwoViews(tmp_path_factory.mktemp("views"), seed=3)


def run(views, output, *words):
    named = ["--predictions", views.predictions, "--output", str(output), "--data", views.data]
    return cli.main(["alarms", *named, *words])


def read(output):
    return pq.read_table(output / "alarms.parquet").to_pylist(), json.loads((output / "alarms.json").read_text())


@pytest.mark.parametrize("rule", ["max", "mean", "noisy-or"])
def test_a_bag_alarms_by_its_fused_score_and_all_its_views_are_listed(views, tmp_path, rule, capsys):
    at = {"Gun": 0.3, "Knife": 0.4}
    words = ["--by=group", f"--fuse={rule}", "--threshold", ",".join(f"{name}={of}" for name, of in at.items())]
    assert run(views, tmp_path, *words) == 0
    rows, document = read(tmp_path)
    fused = sigmoid(views.fused(rule))
    alarmed = {(pair, k) for pair, k in np.argwhere(fused >= list(at.values())).tolist()}
    assert len(alarmed) >= 4 and len(rows) == 2 * len(alarmed)
    highest = {pair: max(fused[p, k] for p, k in alarmed if p == pair) for pair, _ in alarmed}
    for row in rows:
        pair, view = int(row["key"][10:15]), ("OL", "SD").index(row["key"][16:])
        k = ITEMS.index(row["class"])
        assert (pair, k) in alarmed
        assert row["group"] == f"DvXray%2FP{pair:05d}"
        assert row["bag_score"] == pytest.approx(fused[pair, k]) and row["bag_score"] >= row["threshold"]
        assert row["score"] == pytest.approx(float(sigmoid(views.logits[pair, view, k])))
        num_above, num_equal = (sum(is_it(of, highest[pair]) for of in highest.values()) for is_it in (gt, np.isclose))
        assert num_above < row["rank"] <= num_above + num_equal
        assert row["source_uri"].endswith(f"P{pair:05d}_{('OL', 'SD')[view]}.png") and row["x_px"] is None
    assert {row["key"] for row in rows} == {views.key(pair, view) for pair, _ in alarmed for view in (0, 1)}
    assert [row["rank"] for row in rows] == sorted(row["rank"] for row in rows)
    counts = {name: document[name] for name in ("num_bags", "num_alarmed_bags", "num_alarmed_scans", "num_alarms")}
    num_bags = len(highest)
    assert list(counts.values()) == [NUM_PAIRS, num_bags, 2 * num_bags, len(alarmed)]
    assert (document["by"], document["fusion"]) == ("group", rule)
    assert f"{num_bags} of {NUM_PAIRS} bags to look at" in capsys.readouterr().out


def test_a_reports_thresholds_of_bags_do_here_what_they_did_there(views, tmp_path, capsys):
    report = tmp_path / "r"
    named = ["--predictions", views.predictions, "--data", views.data, "--output", str(report), "--bootstrap-rounds=0"]
    assert cli.main(["evaluate", *named, "--by=group", "--fuse=mean"]) == 0
    point = ["--report", str(report), "--false-alarms-per-1000", "50"]
    assert run(views, tmp_path / "a", "--by=group", *point) in (0, 1)
    rows, document = read(tmp_path / "a")
    assert document["fusion"] == "mean"
    pairs = {int(row["key"][10:15]) for row in rows}
    has_item = views.has_item.any(axis=1)
    plan = document["on_report"]
    assert sum(has_item[pair] for pair in pairs) == plan["num_caught"] > 0
    assert sum(not has_item[pair] for pair in pairs) == plan["num_false"]
    capsys.readouterr()
    for words, message in (
        (point, "by must be group, as the report's thresholds are of bags (mean), got scan"),
        (["--by=group", "--fuse=max", *point], "fuse must be mean, by which the thresholds were found, got max"),
    ):
        assert run(views, tmp_path / "b", *words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fuse=max", "--data=d"], "fuse must stand beside --by group, got max for scans"),
        (["--by=group"], "data must be given beside --by group, for it says which scans show one bag, got none"),
    ],
)
def test_bags_without_what_says_them_are_refused(views, tmp_path, capsys, words, message):
    named = ["--predictions", views.predictions, "--output", str(tmp_path / "a"), "--threshold=Gun=0.5"]
    assert cli.main(["alarms", *named, *words]) == 2
    assert message in capsys.readouterr().err


def test_one_name_in_two_datasets_is_two_bags(tmp_path):
    first = write_dataset(tmp_path / "one", [sample("a", (0, 0), group="bag")], split="monday")
    second = write_dataset(tmp_path / "two", [sample("b", (0, 0), group="bag"), sample("c", (0, 0))], split="tuesday")
    url = write_predictions(tmp_path / "p", first, [prediction("a", (0, 0))])
    shards = ScoredShards([first, second], open_predictions(url))
    groups = [sample["group"] for sample in second.read_samples(columns=["group"]).to_pylist()]
    assert groups == ["bag", None]
    named = [
        shards.name_bags(f"{split}-00000-of-00001", dataset.read_samples(columns=["group"])["group"]).to_pylist()
        for split, dataset in (("monday", first), ("tuesday", second))
    ]
    assert named == [["0:bag"], ["1:bag", None]]
