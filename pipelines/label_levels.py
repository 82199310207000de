"""Label each scan with the level of a network that has the least loss on it, to train Meta Fusion with (MF-N)."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from model.training.level_labels import LabelsInfo, label_levels, write_level_labels
from pipelines.runtime import command_line
from pipelines.runtime.flags import make_config
from shards.format.dataset import open_dataset
from shards.predictions.run import open_predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLevelsConfig:
    """Predictions to make labels of, and where the labels go."""

    predictions: str
    """PREDICTIONS/<model-id> that `sixray score` wrote."""
    data: str
    """The dataset that was scored."""
    output: str
    """File for the labels: a path or an fsspec URL, .parquet."""
    split: str = "train"
    """Split of the dataset."""


def write_labels(config: LabelLevelsConfig) -> LabelsInfo:
    """Write the labels of a split as a Parquet file; return what made them.

    Raises:
        ValueError: the predictions are of another dataset, or hold no part of that split.
    """
    labels, info = label_levels(open_predictions(config.predictions), open_dataset(config.data), config.split)
    write_level_labels(config.output, labels, info)
    return info


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(LabelLevelsConfig, make_parser().parse_args(argv))
    info = write_labels(config)
    loss = "of each class" if info.per_class else "of any item: model and dataset do not have the same classes"
    numbers = ", ".join(f"level {level}: {count}" for level, count in enumerate(info.num_by_level, start=1))
    print(f"{config.output}: labels by {info.model_id}, loss {loss}")
    print(f"{numbers}; without a label: {info.num_unlabelled}")
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "label-levels",
        LabelLevelsConfig,
        "Write which level of a network had the least loss on each scan: labels to train Meta Fusion with (MF-N). "
        "Score the split with that network first, usually a CHR; it may have been trained on other data.",
    )


if __name__ == "__main__":
    sys.exit(main())
