"""Rank the scans of a dataset whose labels are likely wrong."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from model.evaluation.scans.scored_scans import join_predictions
from model.reports.heatmap_overlay import Layer
from model.review.evidence import weigh_labels
from model.review.folder import check_folder, write_review
from model.review.page import render_page
from model.review.ranking import choose_suspects, describe_suspects, find_strongest
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import make_config
from shards import storage
from shards.format.dataset import Dataset, open_dataset
from shards.format.shard_reader import LabelledRow, find_labelled_rows
from shards.host import installed_versions
from shards.predictions.run import Predictions, open_predictions
from shards.predictions.trained_on import find_trained_share, is_training_data

FORMAT_VERSION = 1
NUM_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewConfig:
    """What to look at, and how much of it."""

    predictions: str
    """PREDICTIONS/<model-id>, best of a model that has not learnt from these labels."""
    data: str
    """The dataset that was scored."""
    output: str
    """Folder for review.html, review.csv, review.parquet and review.json."""
    split: str = "test"
    """Split whose labels are reviewed."""
    budget: int = 1000
    """Scans to list at most, the most doubtful first."""
    model: str | None = None
    """Folder of the run, or of the model, that made the scores: draws its heatmaps over the scans of the page."""

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"budget must be >= 1, got {self.budget}")


def review_labels(config: ReviewConfig) -> tuple[pa.Table, dict[str, Any]]:
    """Write the ranked scans; return them and what review.json says.

    Raises:
        ValueError: predictions and dataset do not fit, or the folder holds something else; nothing is written.
    """
    dataset, predictions = open_dataset(config.data), open_predictions(config.predictions)
    output = storage.normalise_url(config.output)
    document: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "model_id": predictions.model_id,
        "dataset_digest": dataset.manifest.digest,
        "split": config.split,
        "budget": config.budget,
    }
    check_folder(output, document)
    scans = join_predictions(predictions, dataset, config.split)
    evidence = weigh_labels(scans)
    strongest_N = find_strongest(evidence)
    rows = choose_suspects(strongest_N, config.budget)
    keys = scans.keys_N.take(pa.array(rows, pa.int64())).to_pylist()
    samples = find_labelled_rows(dataset, keys, config.split)
    suspects = describe_suspects(scans, evidence, rows, [samples[key].row.sha256 for key in keys])
    layers = _draw_layers(config.model, predictions, dataset, suspects, samples) if config.model else {}
    document |= {
        "num_scans": len(scans.keys_N),
        "num_doubtful": int((strongest_N > 0).sum()),
        "trained_share": find_trained_share(predictions.run.get("trained_on"), dataset, config.split),
        "out_of_fold": predictions.run.get("out_of_fold"),
        "versions": installed_versions(),
    }
    write_review(output, document, suspects, render_page(document, suspects, scans, samples, layers))
    return suspects, document


def _draw_layers(
    model_url: str,
    predictions: Predictions,
    dataset: Dataset,
    suspects: pa.Table,
    samples: Mapping[str, LabelledRow],
) -> dict[str, Layer]:
    from pipelines.review_heatmaps import draw_layers  # imports PyTorch, which a review without a model does without

    class_of = dict(zip(suspects["key"].to_pylist(), suspects["class"].to_pylist(), strict=True))
    layers, problems = draw_layers(model_url, predictions, dataset, samples, class_of)
    for key, reason in problems.items():
        log.status(f"no heatmap of {key}: {reason}", level="warning")
    return layers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(ReviewConfig, make_parser().parse_args(argv))
    suspects, document = review_labels(config)
    if is_training_data(document["trained_share"]):
        log.status(
            "the model has learnt from these labels, so it defends them; review scores of a model that has not",
            level="warning",
        )
    print(
        f"{suspects.num_rows:,} of {document['num_scans']:,} scans ranked, more speaks against a label than for it in "
        f"{document['num_doubtful']:,}: {storage.join_url(config.output, 'review.html')}"
    )
    for row in suspects.slice(0, NUM_SHOWN).to_pylist():
        print(f"  {row['rank']}. {row['key']}: {row['reason']}")
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser("review", ReviewConfig, "Rank the scans whose labels are likely wrong.")


if __name__ == "__main__":
    sys.exit(main())
