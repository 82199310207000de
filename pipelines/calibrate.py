"""Find thresholds whose false alarms or misses stay below a limit on new scans, with a stated confidence."""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from model.evaluation.alarm_plans import bags_of
from model.evaluation.scans.bags import number_bags
from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from model.metrics.guarantees import FALSE_ALARMS, Guarantee, Promise, limit_false_alarms, limit_misses
from model.reports.text.numbers import format_percent
from model.reports.threshold_file import check_output, thresholds_document, write_thresholds
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, make_config
from shards.format.dataset import open_dataset
from shards.host import installed_versions
from shards.predictions.run import open_predictions
from shards.predictions.trained_on import find_trained_share, is_training_data


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateConfig:
    """Which scans to find thresholds on, and what is to hold of them."""

    predictions: str
    """PREDICTIONS/<model-id>."""
    data: str
    """The dataset that was scored."""
    output: str
    """File for the thresholds, e.g. thresholds.json."""
    split: str = "val"
    """Scans to find them on: such as the alarm is for, and none that the model was trained on."""
    max_false_alarms_per_1000: Annotated[float | None, Flag(metavar="N", type=float)] = None
    """Limit of alarmed bags in 1,000 clean ones, over all classes together."""
    max_miss_rate: Annotated[Mapping[str, str], Flag(metavar="CLASS=R")] = field(default_factory=dict)
    """Limit of the share of a class' bags that are missed; repeatable."""
    confidence: float = 0.9
    """Probability, over draws of scans, that all limits are kept."""

    def __post_init__(self) -> None:
        if (self.max_false_alarms_per_1000 is None) == (not self.max_miss_rate):
            raise ValueError("limit must be one of --max-false-alarms-per-1000 and --max-miss-rate, got both or none")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be in [0.5, 1), got {self.confidence}")
        if self.max_false_alarms_per_1000 is not None and not 0 < self.max_false_alarms_per_1000 < 1000:
            raise ValueError(f"false alarms must be in (0, 1000), got {self.max_false_alarms_per_1000}")
        if self.split == "train":
            raise ValueError("split must not be train, got 'train': scores of scans that a model has seen are too good")

    def max_rates(self, classes: Sequence[str]) -> dict[int, float]:
        """Return the limits of misses by the index of the class."""
        rates = {}
        for name, text in self.max_miss_rate.items():
            if name not in classes:
                raise ValueError(f"miss rate must be of a class among {', '.join(classes)}, got {name!r}")
            try:
                rates[classes.index(name)] = float(text)
            except ValueError as error:
                raise ValueError(f"miss rate must be a number in (0, 1), got '{name}={text}'") from error
            if not 0 < rates[classes.index(name)] < 1:
                raise ValueError(f"miss rate must be a number in (0, 1), got '{name}={text}'")
        return rates


def calibrate_thresholds(config: CalibrateConfig) -> dict[str, Any]:
    """Write `thresholds.json`, null where a limit cannot be promised; return what it says.

    Raises:
        ValueError: the predictions do not match the dataset, the model was trained on the split, a class is unknown, or
            the output is a file of another program or model.
    """
    predictions, dataset = open_predictions(config.predictions), open_dataset(config.data)
    check_output(config.output, predictions.model_id)
    trained_share = find_trained_share(predictions.run.get("trained_on"), dataset, config.split)
    if is_training_data(trained_share):
        raise ValueError(
            f"split must be one that the model was not trained on, got {config.split!r} of dataset "
            f"{dataset.manifest.digest} ({dataset.url}): {predictions.model_id} was trained on "
            f"{100 * (trained_share or 0):.0f} % of its scans"
        )
    scans = join_predictions(predictions, dataset, config.split)
    found = find_guarantee(scans, config)
    identity = {
        "model_id": predictions.model_id,
        "dataset_digest": dataset.manifest.digest,
        "split": config.split,
        "num_scans": len(scans.keys_N),
        "num_bags": len(np.unique(number_bags(scans))),
        "num_in_other_splits": scans.completeness.num_crossing,
        "trained_share": trained_share,
    }
    document = thresholds_document(found, scans.classes, config.confidence, identity)
    document["versions"] = installed_versions()
    write_thresholds(config.output, document)
    return document


def find_guarantee(scans: ScoredScans, config: CalibrateConfig) -> Guarantee:
    """Return thresholds of scans that keep the limits of a config."""
    bags = bags_of(scans)
    if config.max_false_alarms_per_1000 is not None:
        return limit_false_alarms(
            bags,
            config.max_false_alarms_per_1000 / 1000,
            config.confidence,
            _choose_to_learn(scans, len(bags.is_clean_G)),
        )
    found = limit_misses(bags, config.max_rates(scans.classes), config.confidence)
    promises = [replace(promise, subject=scans.classes[int(promise.subject)]) for promise in found.promises]
    return replace(found, promises=tuple(promises))


def _choose_to_learn(scans: ScoredScans, num_bags: int) -> npt.NDArray[np.bool_]:
    """Return which third of the bags thresholds are learnt on: a hash of their first key decides, not their scores."""
    firsts = np.unique(number_bags(scans), return_index=True)[1]
    keys = scans.keys_N.take(firsts).to_pylist()
    learn_G = np.array([hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % 3 == 0 for key in keys], bool)
    assert len(learn_G) == num_bags
    return learn_G


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where a limit cannot be promised."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(CalibrateConfig, make_parser().parse_args(argv))
    document = calibrate_thresholds(config)
    promises = [Promise(**promise) for promise in document["promises"]]
    for promise in promises:
        print(_describe(promise, config.confidence))
    print(config.output)
    if document["num_in_other_splits"]:
        log.status(
            f"{document['num_in_other_splits']} scans lie byte for byte in another split too: if the model was trained "
            f"on it, the promise does not hold",
            level="warning",
        )
    elif document["trained_share"]:
        log.status(
            f"the model was trained on about {format_percent(document['trained_share'], ' ')} of these scans: for "
            f"them the promise does not hold",
            level="warning",
        )
    if document["trained_share"] is None:
        log.status("the predictions do not say what the model was trained on: if on these scans, no promise holds")
    is_kept = all(promise.num_wrong is not None for promise in promises)
    return command_line.OK if is_kept else command_line.FINDINGS


def _describe(promise: Promise, confidence: float) -> str:
    if promise.subject == FALSE_ALARMS:
        limit, bags = f"at most {1000 * promise.max_rate:g} false alarms per 1,000 clean bags", "clean bags"
    else:
        limit, bags = (
            f"at most {100 * promise.max_rate:g} % of {promise.subject} missed",
            f"bags with {promise.subject}",
        )
    if promise.num_wrong is None:
        return f"not promised: {limit} needs {promise.num_needed:,} {bags} or more, got {promise.num_bags:,}"
    assert promise.upper_bound is not None
    return (
        f"promised with confidence {confidence:g}: {limit}; {promise.num_wrong:,} of {promise.num_bags:,} {bags} here, "
        f"upper bound {100 * promise.upper_bound:.3g} %; drift excluded"
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "calibrate",
        CalibrateConfig,
        "Find thresholds whose false alarms or misses stay below a limit on new scans, with a stated confidence.",
    )


if __name__ == "__main__":
    sys.exit(main())
