"""The worked examples of CONTRIBUTING run as they are printed."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from model.metrics import class_figures
from model.metrics.ranking import rank, trace_curve
from model.networks.output import NetworkOutput
from shards.corpus.layouts.registry import LAYOUTS, find_corpus
from shards.format.classes import UNKNOWN
from tests.corpora import jpeg_bytes, reasons_of, rows_of
from tests.model.training import test_loss_base
from tests.shards.plain_calls import convert_plainly

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
LAYOUT, LOSS, METRIC = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that imports a text as a module."""

    def load(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return importlib.import_module(name)

    return load


def test_the_layout_is_found_and_its_lists_are_read(load, tmp_path, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "scans", load("scans_example", LAYOUT).SCANS)
    with pytest.raises(ValueError, match="scans corpus must have a folder scans and a file"):
        find_corpus(str(tmp_path), "scans", "all")
    corpus = tmp_path / "corpus"
    (corpus / "scans").mkdir(parents=True)
    assert find_corpus(str(corpus), "auto", "all").layout == "images"
    for number in range(5):
        (corpus / f"scans/{number}.jpg").write_bytes(jpeg_bytes(number))
    (corpus / "labels_train.txt").write_text("0 Gun\n0 knife\n\n1\n")
    (corpus / "labels_test.txt").write_text("2 Pliers\n3 Spoon\n")
    convert_plainly(corpus, tmp_path / "ds")
    rows = {row["key"]: row for row in rows_of(tmp_path / "ds")}
    assert {key: row["split"] for key, row in rows.items()} == {
        "0": "train", "1": "train", "2": "test", "3": "unlisted", "4": "unlisted",
    }  # fmt: skip
    present = {key: [name for name, label in row["labels"].items() if label] for key, row in rows.items()}
    assert present == {"0": ["Gun", "Knife"], "1": [], "2": ["Pliers"], "3": [], "4": []}
    assert reasons_of(tmp_path / "ds") == {"3": "bad_list_row"}


def test_the_loss_without_focus_is_binary_cross_entropy(load):
    loss_class = load("focal_loss_example", LOSS).FocalLossConfig
    logits_LBK = torch.tensor([[[2.0, -1.0], [0.5, 0.0]]])
    labels_BK = torch.tensor([[1.0, 0.0], [UNKNOWN, 1.0]])
    output = NetworkOutput(logits_LBK, (), torch.zeros(2, 1))
    batch = type("Batch", (), {"labels_BK": labels_BK})()
    terms = loss_class(gamma=0.0).terms(output, batch)
    known = labels_BK != UNKNOWN
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits_LBK[0][known], labels_BK[known])
    torch.testing.assert_close(terms["classification"], expected * known.sum() / known.numel())
    assert loss_class().terms(output, batch)["classification"] < terms["classification"]
    test_loss_base.test_a_loss_is_the_mean_over_scans_so_batches_can_be_weighed_by_their_size(loss_class())
    test_loss_base.test_a_loss_travels_to_other_processes_and_has_a_rating(loss_class())
    test_loss_base.test_the_weight_that_a_loss_says_the_top_level_has_is_that_of_its_gradient(loss_class())


def test_the_metric_is_the_highest_f2(monkeypatch):
    monkeypatch.setattr(class_figures, "CLASS_FIGURES", dict(class_figures.CLASS_FIGURES))
    names = dict(vars(class_figures))
    exec(compile(METRIC, "CONTRIBUTING.md", "exec"), names)
    curve = trace_curve(rank(np.array([3.0, 2.0, 1.0, 0.0]), np.array([1, 0, 1, 0])))
    assert class_figures.CLASS_FIGURES["best_f2"].compute(curve) == pytest.approx(5 * (2 / 3) / (4 * 2 / 3 + 1))
