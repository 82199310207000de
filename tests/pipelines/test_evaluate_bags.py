"""Test that `sixray evaluate --by group` rates the two views of a bag as one row."""

import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines import cli
from shards.format.dataset import open_dataset
from shards.format.parquet import predictions_schema, write_parquet
from shards.predictions.parts import part_url
from tests.model.reports.test_metrics_json import SCHEMA, violations
from tests.model.written import CLASSES, add_split, prediction, sample, write_dataset, write_predictions
from tests.pipelines.bag_corpus import ITEMS, NUM_PAIRS, VIEWS, TwoViews
from tests.shards.corpus.layouts.twins import put


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return TwoViews(tmp_path_factory.mktemp("views"))


def evaluate(views, output, *words):
    code = cli.main(
        ["evaluate", "--predictions", views.predictions, "--data", views.data, "--output", str(output), *words]
    )
    assert code == 0
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize("rule", ["max", "mean", "noisy-or"])
def test_figures_are_those_of_the_fused_scores_of_pairs(views, tmp_path, rule, capsys):
    document = evaluate(views, tmp_path / "r", "--by=group", f"--fuse={rule}", "--bootstrap-rounds=0")
    assert list(violations(document, SCHEMA)) == []
    assert (document["by"], document["fusion"]) == ("group", rule)
    assert (document["num_scans"], document["bags"]["num"]) == (2 * NUM_PAIRS, NUM_PAIRS)
    assert f"{NUM_PAIRS} bags ({rule} of their scores): {2 * NUM_PAIRS} scans" in capsys.readouterr().out
    page = (tmp_path / "r/report.html").read_text()
    assert "every row is a bag, wherever a scan is spoken of" in page
    logits = views.fused(rule)
    for k, name in enumerate(ITEMS):
        # A class that is boxed in one view alone leaves that bag's other classes unknown in the other view.
        unknown = (np.arange(NUM_PAIRS) == views.half_boxed) & ~views.has_item[:, k]
        present, scores = views.has_item[~unknown, k], logits[~unknown, k]
        of = document["classes"][name]
        assert of["num_positive"] == present.sum() and of["num_negative"] == (~present).sum()
        assert of["num_unknown"] == unknown.sum()
        expected = average_precision_score(present, scores)
        assert of["average_precision"]["non_interpolated"] == pytest.approx(expected, abs=1e-12)
        assert of["roc_auc"] == pytest.approx(roc_auc_score(present, scores), abs=1e-12)
    assert document["classes"]["Scissors"]["num_unknown"] == NUM_PAIRS  # the file has no scores of it
    rows = duckdb.sql(f"select * from '{tmp_path}/r/scans.parquet' order by key").fetchall()
    assert len(rows) == NUM_PAIRS and len({row[2] for row in rows}) == NUM_PAIRS


def test_the_highest_score_is_what_bags_alarm_by_and_the_default(views, tmp_path):
    by_scan = evaluate(views, tmp_path / "s", "--bootstrap-rounds=0")
    by_bag = evaluate(views, tmp_path / "b", "--by=group", "--bootstrap-rounds=0")
    assert "by" not in by_scan and by_bag["fusion"] == "max"
    assert by_bag["alarms"]["10"]["joint"] == by_scan["alarms"]["10"]["joint"]
    assert by_bag["bags"] == by_scan["bags"]


def test_a_scan_alone_is_a_bag_and_models_are_compared_bag_by_bag(tmp_path):
    rows = [("a", (1, 0), "x"), ("b", (0, 0), "x"), ("c", (None, 0), "y"), ("d", (0, 0), "y"), ("e", (0, 0), None)]
    dataset = write_dataset(tmp_path / "ds", [sample(key, of, group=group) for key, of, group in rows])
    logits = {"a": (0.5, 0), "b": (2.0, 0), "c": (1.0, 0), "d": (3.0, 0), "e": (1.0, 0)}
    url = write_predictions(tmp_path / "p", dataset, [prediction(key, of) for key, of in logits.items()])
    words = ["--predictions", url, "--data", dataset.url, "--output", str(tmp_path / "r"), "--baseline", url]
    assert cli.main(["evaluate", *words, "--by=group", "--fuse=mean"]) == 0
    document = json.loads((tmp_path / "r/metrics.json").read_text())
    gun = document["classes"]["Gun"]
    assert (gun["num_positive"], gun["num_negative"], gun["num_unknown"]) == (1, 1, 1)
    assert gun["average_precision"]["non_interpolated"] == 1.0  # 1.25 of x above 1.0 of e
    (compared,) = document["comparisons"]
    assert (compared["num_scans"], compared["classes"]["Gun"]["average_precision"]["difference"]) == (3, 0.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fuse=mean"], "fuse must stand beside --by group, got mean for scans"),
        (["--by=group", "--subset=10=x.csv"], "by must be scan beside --subset, whose lists name scans, got group"),
        (["--by=group", "--fuse=mean", "--thresholds=t.json"], "fuse must be max beside --thresholds"),
    ],
)
def test_what_bags_cannot_be_rated_with_is_refused(views, tmp_path, capsys, words, message):
    named = ["--predictions", views.predictions, "--data", views.data, "--output", str(tmp_path / "r")]
    assert cli.main(["evaluate", *named, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_dataset_without_groups_has_no_bags_to_rate(tmp_path, capsys):
    dataset = write_dataset(tmp_path / "ds", [sample("a", (1, 0))])
    url = write_predictions(tmp_path / "p", dataset, [prediction("a", (0, 0))])
    words = ["--predictions", url, "--data", dataset.url, "--output", str(tmp_path / "r"), "--by=group"]
    assert cli.main(["evaluate", *words]) == 2
    assert "data must say which scans show one bag, got no group in split 'test'" in capsys.readouterr().err


def test_the_report_warns_of_bags_that_lie_in_several_splits(tmp_path):
    own = [sample(key, (int(key == "a"), 0), group=group) for key, group in (("a", "x"), ("b", "y"), ("c", None))]
    other = [sample("d", (0, 0), group="y"), sample("e", (0, 0), group="y"), sample("f", (0, 0))]
    dataset = add_split(write_dataset(tmp_path / "ds", own), other, "val")
    url = write_predictions(tmp_path / "p", dataset, [prediction(key, (0, 0)) for key in "aabbcc"])
    write_parquet(
        part_url(url, "test-00000-of-00001"),
        pa.Table.from_pylist([prediction(key, (0, 0)) for key in "abc"], predictions_schema(CLASSES)),
    )
    words = ["--predictions", url, "--data", dataset.url, "--output", str(tmp_path / "r"), "--bootstrap-rounds=0"]
    assert cli.main(["evaluate", *words]) == 0
    assert json.loads((tmp_path / "r/metrics.json").read_text())["coverage"]["num_cut_bags"] == 1
    page = (tmp_path / "r/report.html").read_text()
    assert "Bags of this split have scans in another split as well, 1 in all: y. A model" in page


@pytest.mark.slow
def test_lists_that_cut_a_pair_of_views_are_overruled_by_the_split_policy(views, tmp_path):
    put(views.root / "cut/DvXray_train.txt", "")
    for path in (views.root / "c/DvXray").iterdir():
        put(views.root / "cut/DvXray" / path.name, path.read_bytes())
    lines = [f"./data/DvXray/P{pair:05d}_{VIEWS[view]}.png" for view in (0, 1) for pair in range(NUM_PAIRS)]
    put(views.root / "cut/DvXray_train.txt", "\n".join(f"{line} {line} 0" for line in lines[:NUM_PAIRS]))
    put(views.root / "cut/DvXray_test.txt", "\n".join(f"{line} {line} 0" for line in lines[NUM_PAIRS:]))
    splits: dict[str, dict[str, set[str]]] = {}
    for policy in ("keep", "group"):
        words = ["--input", str(views.root / "cut"), "--output", str(tmp_path / policy), f"--split-policy={policy}"]
        assert cli.main(["convert", *words]) in (0, 1)
        splits[policy] = {}
        for row in open_dataset(str(tmp_path / policy)).read_samples(columns=["group", "split"]).to_pylist():
            splits[policy].setdefault(row["group"], set()).add(row["split"])
    assert all(of == {"train", "test"} for of in splits["keep"].values())
    assert all(of == {"test"} for of in splits["group"].values()) and len(splits["group"]) == NUM_PAIRS
