import io

import numpy as np
import pytest
import torch
from PIL import Image

from model.evaluation.scans.scored_scans import join_predictions
from model.inputs.decoded_batch import Decoded
from model.inputs.decoder import BatchDecoder
from pipelines.cli import main
from pipelines.overlays import OverlaysConfig, choose_scans
from shards.format.dataset import open_dataset
from shards.predictions.run import open_predictions
from tests.pipelines.scoring import TEST, Bench, make_model


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("overlays")
    bench = Bench(root, (str(root / "model"), make_model(root / "model")))
    assert bench.score() == 0
    return bench


def words(bench, output, *more):
    folders = ["--predictions", str(bench.folder), "--data", bench.dataset.url, "--model", bench.model]
    return ["overlays", *folders, "--output", str(output), *more]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_scans_with_the_highest_scores_of_a_class_are_drawn(bench, tmp_path, capsys):
    assert main(words(bench, tmp_path, "--class", "Gun", "--limit", "2")) == 0
    logits = {key: row["Gun"] for key, row in bench.logits().items() if key in {r.key for r in bench.rows(TEST)}}
    highest = sorted(logits, key=logits.__getitem__, reverse=True)[:2]
    assert names(tmp_path) == sorted(f"{key}-Gun.png" for key in highest)
    assert capsys.readouterr().out == f"2 pictures: {tmp_path}\n"
    with Image.open(io.BytesIO((tmp_path / f"{highest[0]}-Gun.png").read_bytes())) as picture:
        assert picture.format == "PNG"


def test_scans_are_drawn_for_every_class_by_their_keys_and_again_to_the_same_bytes(bench, tmp_path):
    key = bench.rows(TEST)[1].key
    for folder in ("one", "two"):
        assert main(words(bench, tmp_path / folder, "--keys", key)) == 0
    assert names(tmp_path / "one") == [f"{key}-{name}.png" for name in ("Gun", "Knife", "Wrench")]
    assert all(
        path.read_bytes() == (tmp_path / "two" / path.name).read_bytes() for path in (tmp_path / "one").iterdir()
    )


@pytest.mark.slow
def test_a_title_says_what_each_level_weighs_where_they_differ(tmp_path, monkeypatch):
    model_id = make_model(tmp_path / "model", fusion="gated")
    bench = Bench(tmp_path, (str(tmp_path / "model"), model_id))
    assert bench.score() == 0
    titles = []

    def draw(picture, heatmap_HW, marks, attention_HW):
        titles.append(marks.title)
        return b""

    monkeypatch.setattr("pipelines.overlays.draw_overlay", draw)
    assert main(words(bench, tmp_path / "out", "--class", "Gun", "--limit", "1")) == 0
    weights = titles[0].rpartition(", levels weigh ")[2].split()
    assert len(weights) == 3
    assert sum(float(weight) for weight in weights) == pytest.approx(1, abs=0.02)


def test_without_names_each_class_has_its_own_scans(bench):
    scans = join_predictions(open_predictions(str(bench.folder)), open_dataset(bench.dataset.url), "test")
    config = OverlaysConfig(predictions="", data="", model="", output="", limit=1)
    wanted = choose_scans(scans, config)
    keys = scans.keys_N.to_pylist()
    assert {k: key for key, numbers in wanted.items() for k in numbers} == {
        k: keys[int(np.argmax(scans.logits_NK[:, k]))] for k in range(3)
    }


@pytest.mark.slow
def test_a_scan_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path, capsys):
    bench = Bench(tmp_path, (str(tmp_path / "model"), make_model(tmp_path / "model")))
    assert bench.score() == 0
    damaged = bench.damage(TEST, 0)
    assert main(words(bench, tmp_path / "out", "--class", "Gun")) == 1
    assert names(tmp_path / "out") == sorted(f"{row.key}-Gun.png" for row in bench.rows(TEST)[1:])
    assert f"no picture of {damaged}: checksum_mismatch" in capsys.readouterr().err


def test_a_scan_that_cannot_be_decoded_is_named(bench, tmp_path, capsys, monkeypatch):
    def decode(self, encoded):
        return Decoded(torch.zeros(1, 3, 64, 64), {0: "bad Huffman table"}, torch.tensor([[0.0, 0, 1, 1]]))

    monkeypatch.setattr(BatchDecoder, "decode", decode)
    key = bench.rows(TEST)[0].key
    assert main(words(bench, tmp_path, "--keys", key)) == 1
    assert f"no picture of {key}: undecodable: bad Huffman table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--class", "Gnu"], r"classes must be among the model's ['Gun', 'Knife', 'Wrench'], got ['Gnu']"),
        (["--keys", "X"], "keys must be scans of split 'test' that have a prediction, got ['X']"),
        (["--limit", "0"], "limit must be >= 1, got 0"),
        (["--split", "val"], "'val'"),
    ],
)
def test_what_is_not_there_is_wrong_usage(bench, tmp_path, capsys, more, message):
    assert main(words(bench, tmp_path, *more)) == 2
    assert message in capsys.readouterr().err


def test_another_model_than_the_one_that_scored_is_refused(bench, tmp_path, capsys):
    make_model(tmp_path / "other", seed=1)
    assert main([*words(replace_model(bench, tmp_path / "other"), tmp_path / "out")]) == 2
    assert f"model must be the one that made the predictions, {bench.model_id}, got chr-" in capsys.readouterr().err


def replace_model(bench, folder):
    other = object.__new__(Bench)
    other.__dict__.update(bench.__dict__, model=str(folder))
    return other
