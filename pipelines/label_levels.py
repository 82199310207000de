"""Which level is each scan to prefer? `sixray label-levels`: labels for Meta Fusion (MF-N) from what a network said."""

import sys
from collections.abc import Sequence

from model.training.level_labels import LabelsInfo, label_levels, write_level_labels
from pipelines.runtime import command_line
from shards.format.dataset import open_dataset
from shards.predictions.run import open_predictions


def label(predictions_url: str, data: str, output: str, split: str = "train") -> LabelsInfo:
    """Write the labels of a split as a Parquet file; return what made them.

    Raises:
        ValueError: the predictions are of another dataset, or hold no part of that split.
    """
    labels, info = label_levels(open_predictions(predictions_url), open_dataset(data), split)
    write_level_labels(output, labels, info)
    return info


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_line.make_parser(
        "label-levels",
        "Write which level of a network had the least loss on each scan: labels to train Meta Fusion with (MF-N). "
        "Score the split with that network first, usually a CHR; it may have been trained on other data.",
    )
    parser.add_argument("--predictions", required=True, help="PREDICTIONS/<model-id> that `sixray score` wrote")
    parser.add_argument("--data", required=True, help="the dataset that was scored")
    parser.add_argument("--output", required=True, help="file for the labels: a path or an fsspec URL, .parquet")
    parser.add_argument("--split", default="train", help="of the dataset")
    flags = parser.parse_args(argv)
    info = label(flags.predictions, flags.data, flags.output, flags.split)
    loss = "of each class" if info.per_class else "of any item: model and dataset have not the same classes"
    numbers = ", ".join(f"level {level}: {count}" for level, count in enumerate(info.num_by_level, start=1))
    print(f"{flags.output}: labels by {info.model_id}, loss {loss}\n{numbers}; without a label: {info.num_unlabelled}")
    return command_line.OK


if __name__ == "__main__":
    sys.exit(main())
