"""Test that detections of another program become scores, peaks and a table of boxes that every reader takes."""

import json
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.operating_points import sigmoid
from pipelines import cli
from shards.format.keys import encode_key
from shards.predictions.detections import read_detections
from shards.predictions.run import open_predictions
from shards.verify.predictions import verify_predictions
from tests.model.coco_precision import rate_by_coco
from tests.model.reports.test_metrics_json import SCHEMA, violations
from tests.model.written import add_split, sample, write_dataset

NUM = 24


class Corpus:
    """A dataset whose scans have random boxes, detections of them, and a function that imports these."""

    def __init__(self, root, num_shards=3):
        rng = np.random.default_rng(0)
        self.root = root
        samples = []
        self.images: list[dict[str, Any]] = []
        self.found: list[Any] = []
        for n in range(NUM):
            has_gun, has_knife = (int(x) for x in rng.random(2) < 0.5)
            corners = rng.uniform(0, 50, (2, 2)).round(2)
            boxes = [
                (name, x, y, x + 40, y + 40)
                for name, (x, y), has in zip(("Gun", "Knife"), corners.tolist(), (has_gun, has_knife), strict=True)
                if has
            ]
            samples.append(sample(f"k{n:02d}", (has_gun, has_knife), boxes))
            self.images.append({"id": 100 + n, "file_name": f"scans/k{n:02d}.jpg", "width": 200, "height": 100})
            for _ in range(rng.integers(0, 5)):
                box = [*rng.uniform(0, 60, 2).tolist(), *rng.uniform(5, 40, 2).tolist()]
                found = {"image_id": 100 + n, "category_id": int(rng.integers(1, 4)), "bbox": box}
                self.found.append(found | {"score": round(float(rng.random()), 1)})
        self.categories = [{"id": k, "name": name} for k, name in enumerate(("gun", "Knife", "Bottle"), start=1)]
        root.mkdir(exist_ok=True)
        self.dataset = write_dataset(root / "ds", samples, num_shards=num_shards)

    def run(self, found, *words, images=True, name="foreign"):
        (self.root / "found.json").write_text(json.dumps(found))
        document = {"images": self.images, "annotations": [], "categories": self.categories}
        (self.root / "images.json").write_text(json.dumps(document))
        named = ["--images", str(self.root / "images.json")] if images else []
        more = ["--data", self.dataset.url, "--output", str(self.root / "p"), "--model-name", name, *named, *words]
        return cli.main(["import-predictions", str(self.root / "found.json"), *more, "--format", "coco-detections"])

    @property
    def predictions(self):
        return open_predictions(str(self.root / "p/foreign"))

    def highest(self):
        """The score and centre of the first of the highest detections of each scan and class, by a plain loop."""
        best: dict[tuple[str, str], tuple[float, float, float]] = {}
        for item in self.found:
            pair = (f"k{item['image_id'] - 100:02d}", ("Gun", "Knife", "Bottle")[item["category_id"] - 1])
            if pair[1] != "Bottle" and (pair not in best or item["score"] > best[pair][0]):
                left, top, right, bottom = _edges(item["bbox"])
                best[pair] = (item["score"], (left + right) / 2, (top + bottom) / 2)
        return best


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def test_the_score_of_a_class_is_its_highest_detection_and_the_peak_its_centre(corpus):
    assert corpus.run(corpus.found) == 0
    assert verify_predictions(corpus.predictions) == []
    best = corpus.highest()
    assert best
    rows = corpus.predictions.read_rows().to_pylist()
    assert len(rows) == NUM
    for row in rows:
        for name in ("Gun", "Knife"):
            score, *centre = best.get((row["key"], name), (0.0,))
            assert sigmoid(np.array(row["logits"][name])) == pytest.approx(score, rel=1e-12)
            peak = row["peaks"][name]
            assert (peak is None) == (not centre)
            assert peak is None or [peak["x_px"], peak["y_px"]] == pytest.approx(centre, rel=1e-6)


def test_every_detection_of_a_class_is_in_the_table_with_its_edges(corpus):
    corpus.run(corpus.found)
    table = read_detections(corpus.predictions)
    expected = sorted(
        (f"k{d['image_id'] - 100:02d}", ["Gun", "Knife"][d["category_id"] - 1], d["score"], *_edges(d["bbox"]))
        for d in corpus.found
        if d["category_id"] < 3
    )
    found = [tuple(row[name] for name in table.column_names if name != "split") for row in table.to_pylist()]
    assert sorted(found) == expected
    assert corpus.predictions.run["detections"] == {"num_detections": len(expected)}
    scores_of: dict[str, list[float]] = {}
    for key, _, score, *_ in found:
        scores_of.setdefault(key, []).append(score)
    assert all(scores == sorted(scores, reverse=True) for scores in scores_of.values())
    order = [key for key in corpus.predictions.read_rows()["key"].to_pylist() if key in scores_of]
    assert list(scores_of) == order
    counted = duckdb.sql(f"select count(*) from '{corpus.predictions.url}/detections/*.parquet'").fetchall()
    assert counted == [(len(expected),)]
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    frame = polars.read_parquet(f"{corpus.predictions.url}/detections/*.parquet")
    assert sorted(frame.drop("split").rows()) == expected


def _edges(box):
    x, y, width, height = box
    return x, y, x + width, y + height


def test_ids_may_be_names_and_a_whole_coco_file_has_the_same_detections(corpus):
    corpus.run(corpus.found)
    expected = corpus.predictions.read_rows()
    named = [
        item | {"image_id": f"k{item['image_id'] - 100:02d}.jpg", "category_id": ["GUN", "Knife", "Bottle"][c - 1]}
        for item in corpus.found
        for c in [item["category_id"]]
    ]
    assert corpus.run(named, images=False, name="named") == 0
    assert open_predictions(str(corpus.root / "p/named")).read_rows().equals(expected)
    whole = {"images": corpus.images, "annotations": corpus.found, "categories": corpus.categories}
    assert corpus.run(whole, images=False, name="whole") == 0
    assert open_predictions(str(corpus.root / "p/whole")).read_rows().equals(expected)


def test_evaluate_alarms_drift_and_comparison_take_detections(corpus):
    corpus.run(corpus.found)
    words = ["--predictions", corpus.predictions.url, "--data", corpus.dataset.url]
    corpus.run([d | {"score": d["score"] / 2} for d in corpus.found], name="other")
    more = ["--output", str(corpus.root / "r"), "--bootstrap-rounds", "20", "--baseline", str(corpus.root / "p/other")]
    assert cli.main(["evaluate", *words, *more]) == 0
    gun = json.loads((corpus.root / "r/metrics.json").read_text())["classes"]["Gun"]
    scans = join_predictions(corpus.predictions, corpus.dataset, "test")
    best, hits = corpus.highest(), []
    for n, key in enumerate(scans.keys_N.to_pylist()):
        for edges in scans.box_edges_B4[(scans.box_scan_B == n) & (scans.box_class_B == 0)].tolist():
            _, x, y = best.get((key, "Gun"), (0, -1, -1))
            hits.append(edges[0] <= x <= edges[2] and edges[1] <= y <= edges[3])
    assert any((key, "Gun") not in best for key in scans.keys_N.to_pylist())  # a scan without a detection is a miss
    assert gun["pointing"]["num_evaluable"] == len(hits) > sum(hits) > 0
    assert gun["pointing_accuracy"] == pytest.approx(sum(hits) / len(hits))
    alarms = ["--output", str(corpus.root / "a"), "--threshold", "Gun=0.5"]
    assert cli.main(["alarms", "--predictions", corpus.predictions.url, *alarms]) == 0
    raised = {row["key"]: row["x_px"] for row in pq.read_table(corpus.root / "a/alarms.parquet").to_pylist()}
    expected = {key: x for (key, name), (score, x, _) in best.items() if name == "Gun" and score >= 0.5}
    assert raised == pytest.approx(expected, rel=1e-6)
    later = Corpus(corpus.root / "later", num_shards=2)
    later.run(corpus.found)
    reference = ["--reference", corpus.predictions.url, "--output", str(corpus.root / "d")]
    assert cli.main(["drift", "--predictions", later.predictions.url, *reference]) == 0


def test_a_scan_that_the_list_of_images_lacks_is_refused_and_one_of_no_scan_is_named(corpus):
    corpus.images[0]["file_name"] = "ghost.jpg"
    assert corpus.run(corpus.found) == 1
    refused = corpus.predictions.read_quarantine().to_pylist()
    assert [(row["key"], row["reason"]) for row in refused] == [("k00", "missing_row")]
    unmatched = pq.read_table(corpus.root / "p/foreign/quarantine/unmatched-rows.parquet").to_pylist()
    assert [(row["key"], row["reason"]) for row in unmatched] == [("ghost", "unknown_key")]
    assert "k00" not in read_detections(corpus.predictions)["key"].to_pylist()
    assert verify_predictions(corpus.predictions) == []


@pytest.mark.parametrize("name", ["a/b/行李.v2.png", "C:\\x\\a\\b\\行李.v2.png", "b/行李.v2", encode_key("b/行李.v2")])
def test_a_file_name_finds_its_scan_by_the_folders_that_are_in_the_key(tmp_path, name):
    corpus = Corpus(tmp_path)
    names = ("b/行李.v2", "a/行李.v2", "行李")
    corpus.dataset = write_dataset(tmp_path / "folders", [sample(encode_key(of), (0, 0)) for of in names])
    found = [{"image_id": name, "category_id": "Gun", "bbox": [1, 2, 3, 4], "score": 0.5}]
    assert corpus.run(found, images=False) == 0
    assert read_detections(corpus.predictions)["key"].to_pylist() == [encode_key("b/行李.v2")]


def test_a_split_without_detections_is_left_out_where_no_list_of_images_says_that_it_was_looked_at(corpus):
    corpus.dataset = add_split(corpus.dataset, [sample("v1", (0, 0))], "val")
    named = [{"image_id": "k01", "category_id": "Gun", "bbox": [1, 2, 3, 4], "score": 0.5}]
    assert corpus.run(named, images=False) == 0
    assert corpus.predictions.run["unscored"] == {"num_shards": 1, "num_scans": 1}
    assert corpus.predictions.run["counts"]["num_scored"] == NUM
    assert {row["logits"]["Knife"] for row in corpus.predictions.read_rows().to_pylist()} == {None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": 1.5}, "score must be in [0, 1], got 1.5"),
        ({"score": "high"}, "score must be in [0, 1], got 'high'"),
        ({"bbox": [1, 2, 3]}, "bbox must be x, y, width and height in pixels, got [1, 2, 3]"),
        ({"bbox": [1, 2, -3, 4]}, "bbox must be x, y, width and height in pixels, got [1, 2, -3, 4]"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox must be"),
        ({"image_id": 7}, "image_id must be that of an image in"),
        ({"category_id": 9}, "category_id must be that of a category in"),
        ({"category_id": [1]}, "category_id must be a number or a name, got [1]"),
        (None, "detection must be an object with image_id, category_id, bbox and score, got None"),
    ],
)
def test_a_detection_that_cannot_be_read_is_named_and_nothing_is_written(corpus, capsys, change, words):
    corpus.found[2] = None if change is None else corpus.found[2] | change
    assert corpus.run(corpus.found) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert words in printed and "found.json detection 3)" in printed
    assert not (corpus.root / "p").exists()


def test_a_file_that_is_cut_or_of_other_classes_or_names_no_images_is_refused(corpus, capsys):
    corpus.run([])
    (corpus.root / "cut.json").write_text(json.dumps(corpus.found)[:-9])
    words = ["--data", corpus.dataset.url, "--output", str(corpus.root / "p"), "--model-name", "cut"]
    assert cli.main(["import-predictions", str(corpus.root / "cut.json"), *words, "--format", "coco-detections"]) == 2
    assert corpus.run(corpus.found, images=False, name="other") == 2
    err = capsys.readouterr().err
    assert "image_id must be a key or a file name; or name the file with the images by --images" in err
    corpus.categories = [{"id": k, "name": f"c{k}"} for k in (1, 2, 3)]
    assert corpus.run(corpus.found, name="classes") == 2
    assert "categories must be some of Gun, Knife, got c1, c2, c3" in capsys.readouterr().err
    assert corpus.run(corpus.found, "--scores-are", "logits", name="logits") == 2
    assert sorted(path.name for path in (corpus.root / "p").iterdir()) == ["foreign"]


def test_damage_of_the_table_is_found(corpus):
    corpus.run(corpus.found)
    (path, *_) = sorted((corpus.root / "p/foreign/detections").iterdir())
    table = pq.read_table(path)
    path.unlink()
    assert {damage.what for damage in verify_predictions(corpus.predictions)} == {"missing_file", "unreadable_part"}
    pq.write_table(table.set_column(2, table.schema.field("class"), [["Bomb"] * len(table)]), path)
    reasons = {damage.what for damage in verify_predictions(corpus.predictions)}
    assert reasons == {"checksum_mismatch", "part_mismatch"}
    with pytest.raises(ValueError, match="predictions must have sha256"):
        read_detections(corpus.predictions)


def test_a_report_rates_the_boxes_as_pycocotools_does(corpus, capsys):
    # Detections near the boxes, and scans in which Gun cannot be rated: of unknown label, and with no box.
    samples = [row for row in corpus.dataset.read_samples().to_pylist() if row["split"] == "test"]
    unrated = {}
    for row in samples:
        for box in row["boxes"]:
            edges = np.array([box[f"{edge}_px"] for edge in ("xmin", "ymin", "xmax", "ymax")])
            edges += np.random.default_rng(len(corpus.found)).integers(-9, 10, 4)
            left, top, right, bottom = edges.tolist()
            found = {"image_id": 100 + int(row["key"][1:]), "category_id": 1 + (box["class"] == "Knife")}
            corpus.found.append(found | {"bbox": [left, top, right - left, bottom - top], "score": 0.5})
    for row, is_unknown in zip([row for row in samples if row["labels"]["Gun"]][:4], (1, 1, 0, 0), strict=True):
        unrated[row["key"]] = row["labels"]["Gun"] = None if is_unknown else 1
        row["boxes"] = [box for box in row["boxes"] if box["class"] != "Gun"]
    corpus.dataset = write_dataset(corpus.root / "ds", [_plain(row) for row in samples], num_shards=3)
    assert corpus.run(corpus.found) == 0
    words = ["--predictions", corpus.predictions.url, "--data", corpus.dataset.url, "--bootstrap-rounds", "0"]
    report = corpus.root / "report"
    bounds = ["--require", "mean.ap50>=0", "--require", "Gun.ap50_95<=1"]
    assert cli.main(["evaluate", *words, "--output", str(report), *bounds]) == 0
    document = json.loads((report / "metrics.json").read_text())
    assert list(violations(document, SCHEMA)) == []
    figures = document["detection"]
    order = corpus.predictions.read_rows()["key"].to_pylist()
    for name in ("Gun", "Knife"):
        true = [
            (order.index(row["key"]), *(box[f"{edge}_px"] for edge in ("xmin", "ymin", "xmax", "ymax")))
            for row in samples
            for box in row["boxes"]
            if box["class"] == name
        ]
        detected = [
            (order.index(row["key"]), row["score"], row["xmin_px"], row["ymin_px"], row["xmax_px"], row["ymax_px"])
            for row in read_detections(corpus.predictions).to_pylist()
            if row["class"] == name
        ]
        crowds = [order.index(key) for key in unrated] if name == "Gun" else []
        expected_T = rate_by_coco(NUM, detected, true, crowds)
        of = figures["classes"][name]
        assert of["average_precision_by_iou"] == pytest.approx(expected_T, abs=1e-6)
        assert of["ap50_95"] == pytest.approx(expected_T.mean(), abs=1e-6)
        assert 0 < of["ap50_95"] < of["ap50"] < 1
        assert (of["num_scans"], of["num_boxes"]) == (NUM - len(crowds), len(true))
    mean = sum(of["ap50"] for of in figures["classes"].values()) / 2
    assert figures["mean"]["ap50"] == pytest.approx(mean)
    head, gun, *_ = capsys.readouterr().out.splitlines()[-6:]
    assert head.endswith("   AP50  AP50:95")
    assert gun.endswith(f"{figures['classes']['Gun']['ap50']:.3f}    {figures['classes']['Gun']['ap50_95']:.3f}")
    assert f'<td class="n">{mean:.3f}</td>' in (report / "report.html").read_text()
    rows = {line.split(",")[0]: line for line in (report / "classes.csv").read_text().splitlines()}
    assert repr(figures["classes"]["Knife"]["ap50_95"]) in rows["Knife"].split(",")


def _plain(row):
    """A row of `samples` as `write_dataset` takes it."""
    boxes = [tuple(box.values()) for box in row["boxes"]]
    return sample(row["key"], (row["labels"]["Gun"], row["labels"]["Knife"]), boxes)
