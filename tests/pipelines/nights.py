"""Generated nights: a dataset, scores that another program made of it, imported as predictions."""

import json

import numpy as np

from pipelines import cli
from tests.model.written import sample, write_dataset


def score_night(root, name, num=300, model="m", shift=0.0, sites=("a",), shift_of=(), item_share=0.0, refused=0):
    """Write dataset `name` and its predictions `p-name/model`; return the URL of the latter.

    Scores are two normal logits, 3 higher for an item, `shift` higher for all, or for the sites `shift_of` alone; the
    last `refused` scans have no score.
    """
    rng = np.random.default_rng(list(name.encode()))
    keys = [f"{name}-{n}" for n in range(num)]
    site_N = rng.choice(list(sites), num)
    labels_N2 = (rng.random((num, 2)) < item_share).astype(int)
    is_shifted_N = np.isin(site_N, shift_of) if shift_of else np.ones(num, bool)
    logits_N2 = rng.normal(size=(num, 2)) + 3 * labels_N2 - 2 + shift * is_shifted_N[:, None]
    rows = zip(keys, labels_N2.tolist(), site_N.tolist(), strict=True)
    samples = [sample(key, labels, metadata={"site": site}) for key, labels, site in rows]
    dataset = write_dataset(root / name, samples, metadata={"site": "string"})
    scored = list(zip(keys, logits_N2.tolist(), strict=True))[: num - refused]
    lines = [f"{key},{a!r},{b!r}" for key, (a, b) in scored]
    (root / f"{name}.csv").write_text("\n".join(["key,Gun,Knife", *lines]))
    words = ["--data", dataset.url, "--output", str(root / f"p-{name}"), "--format", "csv", "--model-name", model]
    words += ["--scores-are", "logits", "--max-quarantine-fraction", "1"]
    assert cli.main(["import-predictions", str(root / f"{name}.csv"), *words]) == 0
    edit_run(root / f"p-{name}/{model}", dataset_digest=f"{name}-{dataset.manifest.digest}")  # the datasets share one
    return str(root / f"p-{name}/{model}")


def edit_run(folder, **fields):
    """Change fields of a run.json."""
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rate_night(root, name, model="m"):
    """Evaluate a night by its labels; return the URL of the report."""
    dataset = json.loads((root / name / "dataset.json").read_text())
    edit_run(root / f"p-{name}/{model}", dataset_digest=dataset["digest"])
    words = ["--predictions", str(root / f"p-{name}/{model}"), "--data", str(root / name), "--bootstrap-rounds", "0"]
    assert cli.main(["evaluate", *words, "--output", str(root / f"report-{name}")]) == 0
    return str(root / f"report-{name}")
