"""Rate predictions and write a report: a page, its figures, and metrics.json."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

from model.evaluation.comparison import Comparison, DecideBy, compare_models
from model.evaluation.evaluate import NUM_EXTREME_CLASSES, ClassFigures, Evaluation, evaluate_scans
from model.evaluation.scan_table import list_errors, rate_columns, scans_parquet
from model.evaluation.scans.bags import fuse_bags
from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from model.evaluation.subsets import rate_subsets
from model.metrics.bags import Fusion
from model.metrics.uncertainty.bootstrap import NUM_ROUNDS
from model.reports.charts import draw_figures, draw_history
from model.reports.csv_tables import errors_table, make_tables
from model.reports.gallery import collect_gallery
from model.reports.metrics_json import metrics_document, metrics_json
from model.reports.output_folder import REPORT, check_folder, write_output
from model.reports.page import ANY_ITEM, Report, list_rows, render_html, render_markdown
from model.reports.requirements import Checked, check_requirements, parse_requirement
from model.reports.text.numbers import format_count, format_ratio
from model.reports.threshold_file import given_thresholds, rate_thresholds, read_thresholds
from model.reports.tradeoff_charts import draw_tradeoffs
from model.reports.trend import read_history
from pipelines.runtime import command_line, log
from pipelines.runtime.command_line import FINDINGS, OK
from pipelines.runtime.flags import Flag, make_config
from shards import storage
from shards.format.dataset import Dataset, open_dataset
from shards.predictions.run import Predictions, open_predictions

Format = Literal["html", "markdown"]
By = Literal["scan", "group"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and where the report goes."""

    predictions: str
    """Folder of one model's predictions: PREDICTIONS/<model-id>."""
    data: str
    """The dataset that was scored."""
    output: str
    """Folder of the report: a path or an fsspec URL."""
    split: str = "test"
    """Split to evaluate."""
    by: By = "scan"
    """group: rate bags, with the scores of their scans fused, in place of scans."""
    fuse: Fusion | None = None
    """How scores become one with --by group: the highest (max, the default), the mean of the logits, or noisy or."""
    baselines: Annotated[tuple[str, ...], Flag("--baseline", metavar="PREDICTIONS")] = ()
    """Folder of another model's predictions of the same dataset, to compare with; repeatable."""
    decide_by: DecideBy = "mean_average_precision"
    """The figure that says which model is better; recall: of the alarm for any item, at 10 false alarms per 1,000."""
    require: Annotated[tuple[str, ...], Flag(metavar="'FIGURE>=VALUE'")] = ()
    """A bound of a figure, e.g. 'gun.recall_at_10>=baseline-0.02'; exit code 1 where it does not hold; repeatable."""
    subsets: Annotated[Mapping[str, str], Flag("--subset", metavar="NAME=LIST")] = field(default_factory=dict)
    """Rate the scans of a list as well, e.g. 10=CORPUS/ImageSet/10/test.csv; repeatable."""
    thresholds: str | None = None
    """File of `sixray calibrate` to rate on these scans; misses and false alarms are listed at its thresholds."""
    history: Annotated[tuple[str, ...], Flag(metavar="REPORT_DIR")] = ()
    """An earlier report of the same split to show beside this one, oldest first; repeatable."""
    num_rounds: Annotated[int, Flag("--bootstrap-rounds", metavar="N")] = NUM_ROUNDS
    """Bootstrap resamples behind the intervals of differences in recall; 0 for no intervals at all."""
    format: Format = "html"
    """A page, or Markdown for a pull request."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise ValueError(f"format must be one of {', '.join(get_args(Format))}, got {self.format!r}")
        if self.by == "scan" and self.fuse is not None:
            raise ValueError(f"fuse must stand beside --by group, got {self.fuse} for scans")
        if self.by == "group" and self.subsets:
            raise ValueError("by must be scan beside --subset, whose lists name scans, got group")
        if self.thresholds is not None and self.fuse not in (None, "max"):
            raise ValueError(f"fuse must be max beside --thresholds, which are of single scans, got {self.fuse}")
        if self.num_rounds < 0:
            raise ValueError(f"bootstrap rounds must be >= 0, got {self.num_rounds}")
        if self.decide_by not in get_args(DecideBy):
            raise ValueError(f"decide-by must be one of {', '.join(get_args(DecideBy))}, got {self.decide_by!r}")
        for of in map(parse_requirement, self.require):
            if of.is_relative and not self.baselines:
                raise ValueError(f"requirement must be of a number without --baseline, got {of.text!r}")


def write_report(config: EvaluateConfig) -> Evaluation:
    """Evaluate predictions and write the report; return what it says."""
    return check_report(config)[0]


def check_report(config: EvaluateConfig) -> tuple[Evaluation, list[Checked]]:
    """Evaluate predictions and write the report; return what it says, and which requirements hold.

    Everything is computed before anything is written, see `model.reports.output_folder`.

    Raises:
        ValueError: the predictions do not match the dataset or are damaged, a required figure is unknown, or the output
            holds something else than a report of these scores; nothing is written.
    """
    predictions, dataset = open_predictions(config.predictions), open_dataset(config.data)
    identity = {"model_id": predictions.model_id, "dataset_digest": dataset.manifest.digest, "split": config.split}
    check_folder(REPORT, config.output, identity)  # now, not after a minute of work
    scans = _join(config, predictions, dataset)
    given = read_thresholds(config.thresholds, predictions.model_id) if config.thresholds is not None else None
    given_K = given_thresholds(given, scans.classes) if given is not None else None
    evaluation = evaluate_scans(scans, predictions, dataset, config.num_rounds, given_K)
    comparisons, baselines = _compare(config, scans, predictions, dataset)
    subsets = rate_subsets(scans, predictions, dataset, config.subsets)
    document = metrics_document(evaluation, comparisons, subsets)
    checked = check_requirements([parse_requirement(text) for text in config.require], document, baselines)
    document["requirements"] = [asdict(of) for of in checked]
    if given is not None:
        document["thresholds"] = rate_thresholds(scans, given, dataset.manifest.digest, config.num_rounds > 0)
    history = read_history(config.history, document)
    figures = draw_figures(evaluation) | draw_tradeoffs(list_rows(evaluation), ANY_ITEM)
    figures |= {"history.svg": draw_history(history)} if history else {}
    files = {name: svg.encode() for name, svg in figures.items()}
    files |= {name: table.encode() for name, table in make_tables(document).items()}
    files |= _make_scan_tables(scans, evaluation)
    report = Report(
        evaluation=evaluation,
        comparisons=comparisons,
        subsets=subsets,
        history=history,
        thresholds=document.get("thresholds"),
    )
    if config.format == "markdown":
        files["report.md"] = render_markdown(report).encode()
    else:
        thresholds = dict(zip(scans.classes, evaluation.alarm_thresholds.logits_K.tolist(), strict=True))
        gallery = collect_gallery(scans, dataset, {name: thresholds[name] for name in evaluation.shown_classes})
        files["report.html"] = render_html(report, figures, gallery).encode()
    write_output(REPORT, config.output, document, files, metrics_json(document, files))
    return evaluation, checked


def _join(config: EvaluateConfig, predictions: Predictions, dataset: Dataset) -> ScoredScans:
    """Return the rows that are rated: scans, or bags."""
    scans = join_predictions(predictions, dataset, config.split)
    return fuse_bags(scans, config.fuse or "max") if config.by == "group" else scans


def _make_scan_tables(scans: ScoredScans, evaluation: Evaluation) -> dict[str, bytes]:
    """Return `scans.parquet` and `errors.csv`."""
    rated = [*evaluation.classes.values(), evaluation.any_item]
    columns = rate_columns(scans, [of.rank.ranking for of in rated], evaluation.alarm_thresholds.logits_K)
    return {
        "scans.parquet": scans_parquet(scans, columns),
        "errors.csv": errors_table(list_errors(scans, columns)).encode(),
    }


def _compare(
    config: EvaluateConfig, scans: ScoredScans, predictions: Predictions, dataset: Dataset
) -> tuple[list[Comparison], list[dict[str, Any]]]:
    """Return the comparison with each baseline, and the figures of each if a requirement names them."""
    comparisons, documents = [], []
    for url in config.baselines:
        baseline = open_predictions(url)
        there = _join(config, baseline, dataset)
        comparisons.append(
            compare_models(
                scans,
                there,
                predictions.model_id,
                baseline.model_id,
                config.num_rounds,
                len(config.baselines),
                config.decide_by,
            )
        )
        if any(parse_requirement(text).is_relative for text in config.require):
            documents.append(metrics_document(evaluate_scans(there, baseline, dataset, config.num_rounds)))
    return comparisons, documents


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sixray evaluate`.

    It returns 1 where a requirement does not hold, or scans have neither a prediction nor a reason for its absence.
    """
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(EvaluateConfig, make_parser().parse_args(argv))
    evaluation, checked = check_report(config)
    page = "report.md" if config.format == "markdown" else "report.html"
    sys.stdout.write(_summarise(evaluation, storage.join_url(config.output, page)))
    if evaluation.completeness.num_missing:
        found = evaluation.completeness
        log.status(
            f"findings: {found.num_missing} of {found.num_samples} samples have neither a prediction nor a "
            f"quarantine row, the first {found.missing_keys[0]}; run `sixray score` again",
            level="warning",
        )
    failed = [of for of in checked if not of.holds]
    for of in failed:
        log.status(f"findings: required {of.reason}", level="warning")
    return FINDINGS if failed or evaluation.completeness.num_missing else OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "evaluate", EvaluateConfig, "Report how good predictions are: report.html, metrics.json and figures as SVG."
    )


def _summarise(evaluation: Evaluation, report_url: str) -> str:
    mean, detection = evaluation.mean, evaluation.detection
    rows = [
        (
            name,
            _count_positives(of),
            of.rank.ranking.prevalence,
            of.rank.average_precision,
            of.rank.roc_auc,
            of.pointing.accuracy,
            (detection.classes[name].ap50, detection.classes[name].ap50_95) if detection else (),
        )
        for name, of in ((name, evaluation.classes[name]) for name in evaluation.shown_classes)
    ]
    mean_found = (detection.mean_ap50, detection.mean_ap50_95) if detection else ()
    rows.append(("mean", "", mean.prevalence, mean.average_precision, mean.roc_auc, mean.pointing_accuracy, mean_found))
    width = max(len(row[0]) for row in rows)
    lines = [f"{'':<{width}}  positives  prevalence     AP    AUC  pointing{'   AP50  AP50:95' if detection else ''}"]
    for name, positives, prevalence, average_precision, auc, pointing, found in rows:
        lines.append(
            f"{name:<{width}}  {positives:>9}  {format_ratio(prevalence):>10}  "
            f"{format_ratio(average_precision['non_interpolated']):>5}  {format_ratio(auc):>5}  "
            f"{format_ratio(pointing):>8}"
            + "".join(f"  {format_ratio(of):>{space}}" for of, space in zip(found, (5, 7), strict=False))
        )
    if evaluation.top_k_accuracy is not None:
        lines.append(
            ", ".join(f"top-{number} accuracy {of.value:.4f}" for number, of in evaluation.top_k_accuracy.items())
        )
    if not evaluation.is_in_full:
        lines.append(f"{NUM_EXTREME_CLASSES} weakest and best of {len(evaluation.classes):,} classes; all: classes.csv")
    scans = f"{format_count(evaluation.completeness.num_scans)} scans of split {evaluation.split}"
    if evaluation.fusion:
        scans = f"{format_count(evaluation.bags.num)} bags ({evaluation.fusion} of their scores): {scans}"
    return "\n".join([*lines, f"{scans}, model {evaluation.model_id}", report_url, ""])


def _count_positives(of: ClassFigures) -> str:
    rated = of.rank.ranking.num_positive
    held = rated + of.num_positive_unscored
    return format_count(held) if held == rated else f"{format_count(rated)} of {format_count(held)}"


if __name__ == "__main__":
    sys.exit(main())
