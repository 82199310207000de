"""Samples and predictions written to disk, and their evaluation."""

import numpy as np
import pytest

from model.evaluation.evaluate import evaluate
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions


@pytest.fixture
def write(tmp_path):
    """Write samples and predictions; return both, opened."""

    def write_both(samples, rows, num_shards=1, **options):
        dataset = write_dataset(tmp_path / "ds", samples, num_shards=num_shards)
        return open_predictions(write_predictions(tmp_path / "pred", dataset, rows, **options)), dataset

    return write_both


def evaluate_written(written, split="test"):
    predictions, dataset = written
    return evaluate(predictions, dataset, split)


def random_rows(num_scans=300, seed=3):
    random = np.random.default_rng(seed)
    labels = (random.random((num_scans, 2)) < 0.1).astype(int)
    logits = (random.normal(size=(num_scans, 2)) + labels).round(1)
    samples = [sample(f"P{i:05d}", labels[i].tolist()) for i in range(num_scans)]
    return samples, [prediction(f"P{i:05d}", logits[i].tolist()) for i in range(num_scans)], labels, logits
