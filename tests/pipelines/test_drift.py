"""Test `sixray drift` over several nights."""

import json

import numpy as np
import pytest

from model.metrics.operating_points import sigmoid
from pipelines import cli
from tests.model.written import sample, write_dataset


def score_night(root, name, shift=0.0, num=300, model="m"):
    rng = np.random.default_rng(list(name.encode()))
    keys = [f"{name}-{n}" for n in range(num)]
    dataset = write_dataset(root / name, [sample(key, (0, 0)) for key in keys])
    document = json.loads((root / name / "dataset.json").read_text())
    scores = sigmoid(rng.normal(size=(num, 2)) + shift)
    lines = [f"{key},{a!r},{b!r}" for key, (a, b) in zip(keys, scores.tolist(), strict=True)]
    (root / f"{name}.csv").write_text("\n".join(["key,Gun,Knife", *lines]))
    words = ["--data", dataset.url, "--output", str(root / f"p-{name}"), "--format", "csv", "--model-name", model]
    assert cli.main(["import-predictions", str(root / f"{name}.csv"), *words]) == 0
    run = root / f"p-{name}/{model}/run.json"  # the generated datasets share one digest
    run.write_text(json.dumps(json.loads(run.read_text()) | {"dataset_digest": f"{name}{document['digest']}"}))
    return str(root / f"p-{name}/{model}")


def watch(root, new, reference):
    return cli.main(["drift", "--predictions", new, "--reference", reference, "--output", str(root / "drift")])


def test_nights_add_up_and_a_change_ends_with_exit_code_1(tmp_path, capsys):
    reference = score_night(tmp_path, "reference", num=1000)
    for night in "abc":
        new = score_night(tmp_path, night)
        assert watch(tmp_path, new, reference) == 0
    document = json.loads((tmp_path / "drift/drift.json").read_text())
    assert len(document["nights"]) == 3 and list(document["streams"]) == ["Gun", "Knife", "any item", "quarantined"]
    assert watch(tmp_path, new, reference) == 0  # the same night again changes nothing
    assert json.loads((tmp_path / "drift/drift.json").read_text()) == document
    assert watch(tmp_path, score_night(tmp_path, "d", shift=1.5), reference) == 1
    assert "changed: Gun, Knife, any item in 4 nights" in capsys.readouterr().out
    assert "<h1>Changed: Gun, Knife, any item.</h1>" in (tmp_path / "drift/drift.html").read_text()


@pytest.mark.parametrize("model", ["other"])
def test_another_model_or_reference_is_refused(tmp_path, capsys, model):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    assert watch(tmp_path, score_night(tmp_path, "b", model=model), reference) == 2
    assert "reference must be of the model other, got m" in capsys.readouterr().err
    assert watch(tmp_path, new, reference) == 0
    assert watch(tmp_path, new, score_night(tmp_path, "c")) == 2
    assert "output must hold the record of this reference" in capsys.readouterr().err
