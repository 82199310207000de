"""List the scans whose scores reach a threshold."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.alarms import (
    Threshold,
    make_threshold,
    parse_thresholds,
    read_plan,
    recall_thresholds,
)
from model.metrics.bags import Fusion
from model.reports.csv_tables import csv_bytes
from model.reports.metrics_json import read_metrics
from model.reports.output_folder import OutputKind, check_folder, write_output
from model.reports.text.numbers import format_percent
from model.reports.threshold_file import read_thresholds
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import PAIRS, Flag, make_config
from pipelines.steps.list_alarms import ScoredShards, count_bags, list_bags, list_scans, read_unscored
from shards import storage
from shards.format.dataset import open_dataset
from shards.format.parquet import parquet_bytes
from shards.host import installed_versions
from shards.predictions.run import Predictions, open_predictions

FORMAT_VERSION = 1
_FILES = ("alarms.parquet", "alarms.csv", "unscored.csv")
_ALARMS = OutputKind(
    noun="list of alarms",
    marker_name="unfinished-alarms.json",
    command="sixray alarms",
    document_name="alarms.json",
    identity=("model_id", "dataset_digest"),
    list_files=lambda _: _FILES,
)
_COUNTS = ("num_clean", "num_false", "num_with_item", "num_caught", "recall", "false_alarms_per_1000")


def _parse_number(text: str) -> str:
    return f"{float(text):g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmsConfig:
    """Which scores raise an alarm, and where the list goes."""

    predictions: str
    """PREDICTIONS/<model-id>."""
    output: str
    """Folder for alarms.parquet, alarms.csv and alarms.json."""
    threshold: Annotated[Mapping[str, str], Flag(metavar="CLASS=SCORE,…", **PAIRS.settings)] = field(
        default_factory=dict
    )
    """Scores in [0, 1] at which a class alarms; they override a report's; a class left out never alarms."""
    thresholds: str | None = None
    """File of `sixray calibrate` for this model, in place of a report."""
    report: str | None = None
    """REPORT_DIR of this model, to take an operating point from."""
    false_alarms_per_1000: Annotated[str | None, Flag(metavar="N", type=_parse_number)] = None
    """Budget of the report: so many of 1,000 clean bags may raise an alarm, of whatever class."""
    any_item: Annotated[bool, Flag(action="store_true")] = False
    """One threshold for all classes, in place of those that together catch the most bags."""
    per_class: Annotated[bool, Flag(action="store_true")] = False
    """Give each class the budget for itself; all together raise more false alarms."""
    recall: Annotated[str | None, Flag(metavar="R", type=_parse_number)] = None
    """Operating point of the report, e.g. 0.95."""
    data: tuple[str, ...] = ()
    """The dataset that was scored; adds source_uri; repeatable."""
    split: str | None = None
    """Split to take the scans of; all if not given."""
    by: Literal["scan", "group"] = "scan"
    """group: bags raise alarms, by the fused scores of their scans, and all views of an alarmed bag are listed."""
    fuse: Fusion | None = None
    """How the scores of a bag become one: max, mean (of logits), noisy-or; that of the report, else max."""

    def __post_init__(self) -> None:
        points = [point for point in (self.false_alarms_per_1000, self.recall) if point is not None]
        if self.report is not None and self.thresholds is not None:
            raise ValueError("thresholds must come from --report or from --thresholds, got both")
        if self.report is None and (points or not (self.threshold or self.thresholds)):
            raise ValueError(
                "thresholds must come from --threshold, or from --report with an operating point, got none"
            )
        if self.report is not None and len(points) != 1:
            raise ValueError(
                f"--report must have one of --false-alarms-per-1000 and --recall beside it, got {len(points)} of them"
            )
        named = self.any_item + self.per_class
        if named > 1 or (named and self.false_alarms_per_1000 is None):
            raise ValueError("--any-item or --per-class must stand alone beside --false-alarms-per-1000")
        if self.by == "scan" and self.fuse is not None:
            raise ValueError(f"fuse must stand beside --by group, got {self.fuse} for scans")
        if self.by == "group" and not self.data:
            raise ValueError("data must be given beside --by group, for it says which scans show one bag, got none")

    @property
    def rule(self) -> str:
        """How the classes share the budget, as metrics.json calls it."""
        return "any_item" if self.any_item else "per_class" if self.per_class else "joint"


def write_alarms(config: AlarmsConfig) -> dict[str, Any]:
    """Write `alarms.parquet`, `alarms.csv`, `unscored.csv` and, last, `alarms.json`; return what the last one says.

    Only alarms are kept in memory, one part of the predictions is read at a time; with bags all logits as well.

    Raises:
        ValueError: a threshold, the report or a dataset does not fit the predictions, or the output holds something
            else than alarms of these scores; nothing is written.
    """
    predictions = open_predictions(config.predictions)
    identity = {"model_id": predictions.model_id, "dataset_digest": predictions.run["dataset_digest"]}
    check_folder(_ALARMS, config.output, identity, _FILES)  # now, not after the scores are read
    thresholds, plan = choose_thresholds(config, predictions)
    fusion = choose_fusion(config, predictions)
    datasets = [open_dataset(url) for url in config.data]
    sources = ScoredShards(datasets, predictions)
    names = [name for name in predictions.run["parts"] if config.split is None or name.startswith(f"{config.split}-")]
    if not names:
        raise ValueError(f"predictions must have a part of split {config.split!r}, got none ({predictions.url})")
    raised = {name: threshold for name, threshold in thresholds.items() if threshold is not None}
    unscored = read_unscored(predictions, names)
    if fusion is None:
        alarms, num_scans = list_scans(predictions, names, sources, raised)
        document = _describe(predictions, thresholds, alarms, num_scans, unscored.num_rows)
    else:
        alarms, num_scans, num_bags = list_bags(predictions, names, sources, raised, fusion)
        document = _describe(predictions, thresholds, alarms, num_scans, unscored.num_rows)
        document |= {"by": "group", "fusion": fusion, "num_bags": num_bags} | count_bags(alarms, thresholds)
    if plan is not None:
        document |= {"rule": config.rule, "on_report": {name: plan[name] for name in _COUNTS}}
    if config.report or config.thresholds:
        silent = [name for name, threshold in thresholds.items() if threshold is None and name not in config.threshold]
        document["cannot_alarm"] = silent
    files = dict(zip(_FILES, (parquet_bytes(alarms), csv_bytes(alarms), csv_bytes(unscored)), strict=True))
    text = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    write_output(_ALARMS, config.output, document, files, text)
    return document


def choose_fusion(config: AlarmsConfig, predictions: Predictions) -> Fusion | None:
    """Return how the scores of bags become one; None if scans raise alarms.

    Raises:
        ValueError: the thresholds are of scores that were fused otherwise.
    """
    theirs: Fusion = "max"  # thresholds of scans mean the same for the highest score of a bag
    if config.report is not None:
        theirs = _read_metrics(config.report, predictions.model_id).get("fusion", "max")
    if config.by == "scan" and theirs != "max":
        raise ValueError(f"by must be group, as the report's thresholds are of bags ({theirs}), got scan")
    fusion = config.fuse or theirs
    if fusion != theirs and (config.report is not None or config.thresholds is not None):
        raise ValueError(f"fuse must be {theirs}, by which the thresholds were found, got {fusion}")
    return fusion if config.by == "group" else None


def choose_thresholds(
    config: AlarmsConfig, predictions: Predictions
) -> tuple[dict[str, Threshold | None], Mapping[str, Any] | None]:
    """Return the threshold of every class, None for one that raises no alarm, and what they do in the report.

    Raises:
        ValueError: the report has no such operating point, or it is another model's: its thresholds mean nothing here.
    """
    classes = predictions.run["classes"]
    thresholds: dict[str, Threshold | None] = {}
    plan = None
    if config.report is not None:
        url = storage.join_url(config.report, "metrics.json")
        metrics = _read_metrics(config.report, predictions.model_id)
        if config.recall is not None:
            thresholds |= recall_thresholds(metrics, config.recall, url)
        else:
            plan = read_plan(metrics, str(config.false_alarms_per_1000), config.rule, url)
            thresholds |= {name: make_threshold(at) for name, at in plan["thresholds"].items()}
    if config.thresholds is not None:
        document = read_thresholds(config.thresholds, predictions.model_id)
        thresholds |= {name: make_threshold(at) for name, at in document["thresholds"].items()}
    if config.threshold:
        thresholds |= parse_thresholds(config.threshold, classes)
        plan = None  # what the report says does not hold for them
    if config.recall is not None and (absent := [name for name in classes if name not in thresholds]):
        raise ValueError(
            f"report must have this operating point for every class, got none for {', '.join(absent)} "
            f"({config.report}); give --threshold {','.join(f'{name}=SCORE' for name in absent)} beside it"
        )
    return {name: thresholds.get(name) for name in classes}, plan


def _read_metrics(report_url: str, model_id: str) -> dict[str, Any]:
    metrics = read_metrics(report_url)
    if metrics.get("model_id") != model_id:
        raise ValueError(
            f"report must be of the model {model_id}, got one of {metrics.get('model_id')} ({report_url}); "
            f"evaluate these predictions first"
        )
    return metrics


def _describe(
    predictions: Predictions,
    thresholds: dict[str, Threshold | None],
    alarms: pa.Table,
    num_scans: int,
    num_unscored: int,
) -> dict[str, Any]:
    per_class = {row["values"]: row["counts"] for row in pc.value_counts(alarms["class"].combine_chunks()).to_pylist()}
    return {
        "format": FORMAT_VERSION,
        "model_id": predictions.model_id,
        "dataset_digest": predictions.run["dataset_digest"],
        "thresholds": {name: None if at is None else at.score for name, at in thresholds.items()},
        "num_scans": num_scans,
        "num_unscored": num_unscored,
        "left_by_run": predictions.run.get("unscored", {"num_shards": 0, "num_scans": 0}),
        "num_alarms": alarms.num_rows,
        "num_alarmed_scans": int(pc.max(alarms["rank"]).as_py() or 0),
        "classes": {name: per_class.get(name, 0) for name in thresholds},
        "versions": installed_versions(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(AlarmsConfig, make_parser().parse_args(argv))
    document = write_alarms(config)
    if silent := document.get("cannot_alarm"):
        why = (
            "nothing is promised of it" if config.thresholds else "no bag of the report that holds it has a score of it"
        )
        print(f"no alarm can be raised for {', '.join(silent)}: {why}; give --threshold CLASS=SCORE")
    if "on_report" in document:
        print(_describe_plan(document["on_report"], config))
    counts = ", ".join(f"{num} {name}" for name, num in document["classes"].items() if num)
    what = "bags" if config.by == "group" else "scans"
    print(
        f"{document[f'num_alarmed_{what}']} of {document[f'num_{what}']} {what} to look at"
        + (f" ({counts})" if counts else "")
        + f": {storage.join_url(config.output, 'alarms.csv')}"
    )
    if document["num_unscored"]:
        log.status(
            f"{document['num_unscored']} scans could not be scored and are to be looked at too: "
            f"{storage.join_url(config.output, 'unscored.csv')}"
        )
    if (left := document["left_by_run"])["num_scans"]:
        log.status(
            f"{left['num_scans']} scans of {left['num_shards']} shards were not scored yet and are in no list here: "
            f"run `sixray score` again first"
        )
    return command_line.FINDINGS if silent else command_line.OK


def _describe_plan(plan: Mapping[str, Any], config: AlarmsConfig) -> str:
    caught = format_percent(plan["recall"], " ") if plan["num_with_item"] else "no bag has an item"
    return (
        f"on the report's scans: {plan['num_caught']:,} of {plan['num_with_item']:,} bags with an item caught "
        f"({caught}), "
        f"{plan['num_false']:,} of {plan['num_clean']:,} clean bags alarmed ({plan['false_alarms_per_1000']:.2f} per "
        f"1,000" + (f", each class alone at most {config.false_alarms_per_1000})" if config.per_class else ")")
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "alarms", AlarmsConfig, "List the scans whose scores reach a threshold, the highest score first."
    )


if __name__ == "__main__":
    sys.exit(main())
