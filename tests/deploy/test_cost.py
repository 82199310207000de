"""Tests of the cost of a million scans: each figure of the runbook follows from a benchmark."""

import csv
import re

import pytest

from tests.deploy.manifests import DEPLOY
from tests.deploy.test_scale import IMAGE_BYTES

TEXT = (DEPLOY / "README.md").read_text()
RATE = "scans a second, start not counted"
RATES = {
    "convert, embedded runner": ("cluster", f"embedded runner: {RATE}"),
    "convert, Prism": ("cluster", f"Prism: {RATE}"),
    "convert, Flink with one TaskManager": ("cluster", f"Flink, 1 TaskManager: {RATE}"),
    "convert, Flink with two": ("cluster", f"Flink, 2 TaskManagers: {RATE}"),
    "convert, disk to disk": ("convert", "sixray convert, checksums on"),
    "score: read, check and decode": ("score", "read, check and decode alone"),
    "score: all of it, CHR on ResNet-34": ("score", "end to end, onnxruntime float32"),
}
"""Cost lines that follow from a rate on all cores."""
NETWORKS = {
    "CHR on ResNet-18": "resnet18 with chr",
    "CHR on ResNet-34": "resnet34 with chr",
    "CHR on ResNet-50": "resnet50 with chr",
    "CHR on ResNet-101": "resnet101 with chr",
    "CHR on Inception-v3": "inception_v3 with chr",
    "CHR on DenseNet-121": "densenet121 with chr",
    "SXMNet on ResNet-50, average": "resnet50 with sxmnet, average",
    "SXMNet on ResNet-50, Meta Fusion": "resnet50 with sxmnet, meta",
}
"""Networks by their name in the benchmark: milliseconds per image on all cores."""


def measured(name):
    """Return the measurements of the CSV that the runbook names, and the number of cores."""
    (path,) = set(re.findall(rf"\btests/bench/{name}_[\w.-]+\.csv", TEXT))
    rows = list(csv.DictReader((DEPLOY.parent / path).read_text().splitlines()))
    (num_cores,) = {int(num) for row in rows for num in re.findall(r"(\d+) cores", row["hardware"])}
    return {row["what"]: float(row["value"]) for row in rows}, num_cores


def core_hours(name, what):
    """Return the core-hours of a million scans by their rate."""
    figures, num_cores = measured(name)
    return num_cores * 1e6 / figures[what] / 3600


def account():
    """Return the expected amount and unit of each line of the runbook."""
    times, num_cores = measured("cost")
    store, _ = measured("requests")
    prediction_bytes = measured("score")[0]["predictions of 1,000,000 scans, 5 classes, 3 levels"]
    hours = {label: core_hours(name, what) for label, (name, what) in RATES.items()}
    hours |= {f"score: network alone, {label}": num_cores * times[what] / 3.6 for label, what in NETWORKS.items()}
    return {
        **{label: (amount, "core-hours") for label, amount in hours.items()},
        "kept: the corpus": (IMAGE_BYTES / 1000, "GB"),
        "kept: a dataset of it": ((IMAGE_BYTES + store["dataset: beside the images"]) / 1000, "GB"),
        "kept: predictions": (prediction_bytes / 1000, "GB"),
        **{
            f"{command}: {kind}": (store[f"{command}: {kind}"] / 1000, "thousand requests")
            for command in ("convert", "verify", "score")
            for kind in ("reads", "writes and listings")
        },
    }


def written():
    """Return the figures of the runbook."""
    rows = re.findall(r"^\| ([^|`]+) \| ([\d.,]+) (core-hours|GB|thousand requests) \|", TEXT, re.MULTILINE)
    return {label: (float(amount.replace(",", "")), unit) for label, amount, unit in rows}


def test_the_account_is_what_was_measured():
    assert written() == {label: (pytest.approx(amount, rel=0.05), unit) for label, (amount, unit) in account().items()}


def test_what_an_engine_takes_is_what_was_measured():
    engines = ("embedded runner", "Prism", "Flink, 1 TaskManager", "Flink, 2 TaskManagers")
    (paragraph,) = re.findall(r"every job takes .*? GB in all", TEXT, re.DOTALL)
    said = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", paragraph)]
    figures, _ = measured("cluster")
    expected = [
        *(figures[f"{engine}: 40 scans"] for engine in engines),
        *(figures[f"{engine}: {RATE}"] for engine in engines),
        *(figures[f"{engine}: peak memory"] / 1000 for engine in engines),
    ]
    assert said == pytest.approx(expected, rel=0.1)


def test_the_example_follows_from_the_account_and_its_assumed_prices():
    """Each line of the example is a product of amounts and prices, and its total their sum."""
    amounts = {label: amount for label, (amount, _) in account().items()}
    (block,) = re.findall(r"```\n(assumed: .*?)```", TEXT, re.DOTALL)
    hour, month, reads, writes = map(float, re.findall(r"= ([\d.]+)", block.partition("\n\n")[0]))
    lines = dict(re.findall(r"^(\w+) .* = +([\d.]+)$", block, re.MULTILINE))
    requests = {
        command: amounts[f"{command}: reads"] * reads + amounts[f"{command}: writes and listings"] * writes
        for command in ("convert", "score")
    }
    expected = {
        "convert": amounts["convert, Flink with two"] * hour + requests["convert"],
        "score": amounts["score: all of it, CHR on ResNet-34"] * hour + requests["score"],
        "keep": (amounts["kept: a dataset of it"] + amounts["kept: predictions"]) * month,
    }
    assert {name: float(lines[name]) for name in expected} == pytest.approx(expected, abs=0.006)
    assert float(lines["together"]) == pytest.approx(sum(expected.values()), abs=0.011)
