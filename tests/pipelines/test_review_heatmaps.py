"""The page of `sixray review --model` shows each scan's heatmap by the model that scored the scan."""

import base64
import io
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import review, score
from pipelines.runtime.command_line import OK, WRONG_USAGE
from shards.format import dataset as dataset_module
from shards.format.dataset import open_dataset
from shards.format.shard_reader import read_rows
from tests.model.scans import make_dataset
from tests.pipelines.scoring import make_model
from tests.shards.by_hand import overwrite


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run of training with its model, another run in its folder, and scores of the first."""
    root = tmp_path_factory.mktemp("review")
    model_id = make_model(root / "run/model")
    make_model(root / "run/fold-1/model", seed=1)
    make_dataset(root / "ds", num_train=2, num_test=12, num_shards=1)
    way = ["--engine=eager", "--dtype=float32"]
    words = ["--model", root / "run/model", "--input", root / "ds", "--output", root / "pred", "--split=test", *way]
    assert score.main(list(map(str, words))) == OK
    return Scored(root, root / "pred" / model_id)


@dataclass(frozen=True)
class Scored:
    """A dataset and predictions of its split test."""

    root: Path
    predictions: Path

    def rows(self, data="ds"):
        """The rows of the split, by key."""
        dataset = open_dataset(str(self.root / data))
        (shard,) = dataset.shards("test")
        return {row.key: row for row in read_rows(dataset.samples_url(shard), shard.num_scans)}

    def review(self, output, *more, data=None):
        words = ["--predictions", self.predictions, "--data", data or self.root / "ds", "--output", output, *more]
        return review.main(list(map(str, words)))


def layers_of(output):
    """Return the heatmap of each scan on the page, by key."""
    cards = (output / "review.html").read_text().split("<li ")[1:]
    found = ((re.findall('data-key="([^"]*)"', card)[0], re.findall('base64,(iVBOR[^"]*)"', card)) for card in cards)
    return {key: base64.b64decode(*png) for key, png in found if png}


def test_each_heatmap_is_brightest_at_the_peak_that_was_recorded(scored, tmp_path):
    assert scored.review(tmp_path / "r", "--model", scored.root / "run") == OK
    layers, rows = layers_of(tmp_path / "r"), scored.rows()
    suspects = pq.read_table(tmp_path / "r/review.parquet").to_pylist()
    peaks = {row["key"]: row["peaks"] for row in pq.read_table(next(scored.predictions.glob("*.parquet"))).to_pylist()}
    assert layers.keys() == {row["key"] for row in suspects} and len(layers) == len(rows)
    for suspect in suspects:
        key, peak = suspect["key"], peaks[suspect["key"]][suspect["class"]]
        layer = Image.open(io.BytesIO(layers[key]))
        opacity_HW = np.asarray(layer.convert("RGBA"))[..., 3]
        assert opacity_HW.min() == 0 and opacity_HW.max() > 150
        scale = layer.width / rows[key].width_px
        x, y = (
            min(int(peak[name] * scale), side - 1) for name, side in (("x_px", layer.width), ("y_px", layer.height))
        )
        assert opacity_HW[y, x] > 0.95 * opacity_HW.max()


def test_the_folder_of_a_model_and_of_its_run_give_the_same_page(scored, tmp_path):
    pages = []
    for name in ("run", "run/model"):
        assert scored.review(tmp_path / "r", "--model", scored.root / name) == OK
        pages.append((tmp_path / "r/review.html").read_bytes())
    assert pages[0] == pages[1] and b"Heatmaps <kbd>H</kbd>" in pages[0]
    assert scored.review(tmp_path / "r") == OK
    assert not layers_of(tmp_path / "r") and b"<kbd>H</kbd>" not in (tmp_path / "r/review.html").read_bytes()


@pytest.mark.parametrize(
    ("model", "message"),
    [("run/fold-1", "model must be the one that made the predictions"), ("ds", "model must be a folder with")],
)
def test_another_model_is_refused_and_nothing_written(scored, tmp_path, capsys, model, message):
    assert scored.review(tmp_path / "r", "--model", scored.root / model) == WRONG_USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_scan_that_cannot_be_read_has_no_heatmap_and_is_named(scored, tmp_path, capsys):
    shutil.copytree(scored.root / "ds", tmp_path / "ds")
    damaged, *whole = scored.rows().values()
    overwrite(next((tmp_path / "ds/test").glob("*.tar")), damaged.offset_bytes, bytes(damaged.size_bytes))
    assert scored.review(tmp_path / "r", "--model", scored.root / "run", data=tmp_path / "ds") == OK
    assert f"no heatmap of {damaged.key}: checksum_mismatch" in capsys.readouterr().err
    assert layers_of(tmp_path / "r").keys() == {row.key for row in whole}


def test_no_checksum_or_label_is_read_twice(scored, tmp_path, monkeypatch):
    read: Counter[str] = Counter()

    def count(url, columns=None, of=dataset_module.read_samples_table):
        read.update(columns if "/test-" in url else ())
        return of(url, columns)

    monkeypatch.setattr(dataset_module, "read_samples_table", count)
    assert scored.review(tmp_path / "r") == OK
    assert (read["sha256"], read["labels"], read["key"]) == (1, 1, 2)  # to be ranked and, of the suspects, to be shown
