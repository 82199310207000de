"""How are findings said? Warnings, plain sentences and numbers, as a reader who is no engineer needs them."""

from collections.abc import Mapping
from typing import Any

from model.evaluation.comparison import Comparison
from model.evaluation.evaluate import MAX_CLASSES_IN_FULL, NUM_EXTREME_CLASSES, Evaluation
from model.evaluation.top_k import TopAccuracy
from model.metrics.bootstrap import Interval
from model.metrics.operating_points import OperatingPoint
from model.reports.gallery import Gallery

FEW_POSITIVES = 200
"""With 190 positives a 95 % interval of an average precision is about 11 points wide."""
MAX_NAMES = 6
"""More classes than these are counted in a sentence, not named: ILSVRC2012 has 1,000."""
NO_BREAK = "\N{NO-BREAK SPACE}"
SUMMARY_RATE = 10
"""False alarms per 1,000 bags at which a summary says how much is caught."""


def list_warnings(evaluation: Evaluation) -> list[str]:
    """Return what a reader must know before trusting a figure, worst first; empty when nothing is off."""
    coverage, warnings = evaluation.coverage, []
    if not coverage.num_scans:
        warnings.append("No scan of this split has a prediction: every figure is undefined.")
    if coverage.num_missing:
        shown = ", ".join(coverage.missing_keys) + (", …" if coverage.num_missing > len(coverage.missing_keys) else "")
        warnings.append(
            f"{_scans(coverage.num_missing)} of {format_count(coverage.num_samples)} "
            f"{'has' if coverage.num_missing == 1 else 'have'} neither a prediction nor a reason why there is none: "
            f"{shown}. The figures say nothing about them; run the scoring again."
        )
    if coverage.num_quarantined:
        reasons = ", ".join(f"{reason} {format_count(n)}" for reason, n in coverage.quarantined_by_reason.items())
        warnings.append(
            f"{_scans(coverage.num_quarantined)} of {format_count(coverage.num_samples)} could not be scored "
            f"({reasons}). The figures say nothing about them."
        )
    if coverage.num_crossing:
        shown = ", ".join(coverage.crossing_keys) + (
            ", …" if coverage.num_crossing > len(coverage.crossing_keys) else ""
        )
        warnings.append(
            f"{_scans(coverage.num_crossing)} of this split {'is' if coverage.num_crossing == 1 else 'are'} byte for "
            f"byte in another split as well: {shown}. A model that was trained there has seen them, and these figures "
            f"flatter it."
        )
    without = [name for name, rated in evaluation.classes.items() if not rated.rank.ranking.num_positive]
    if without:
        named = _join(without, "or") if len(without) <= MAX_NAMES else f"any of {format_count(len(without))} classes"
        warnings.append(
            f"No scan holds {named}: no figure exists there, and the means leave "
            f"{'the class' if len(without) == 1 else 'these classes'} out."
        )
    return warnings


def say_what_is_left_out(evaluation: Evaluation) -> str | None:
    """Return what a report of many classes lacks, and where the rest is; None where nothing is left out."""
    if evaluation.is_in_full:
        return None
    return (
        f"{format_count(len(evaluation.classes))} classes are more than the {MAX_CLASSES_IN_FULL} that a report shows "
        f"one by one: no class has charts or counts at every threshold, and which class is taken for which is not "
        f"counted. The chart and the pictures are of the {NUM_EXTREME_CLASSES} weakest and the {NUM_EXTREME_CLASSES} "
        f"best classes; what stands on no page is in metrics.json, classes.csv, alarms.csv and strata.csv."
    )


def list_picture_problems(gallery: Gallery | None) -> list[str]:
    """Return a warning where pictures of the gallery could not be read; the figures stand all the same."""
    if gallery is None or not gallery.problems:
        return []
    key, reason = next(iter(gallery.problems.items()))
    pictures = "1 picture" if len(gallery.problems) == 1 else f"{len(gallery.problems)} pictures"
    return [f"{pictures} of the gallery could not be shown, first {key}: {reason}. The figures do not depend on them."]


def summarise(evaluation: Evaluation) -> list[str]:
    """Return what was found, in plain sentences."""
    rated = {name: figures for name, figures in evaluation.classes.items() if figures.rank.ranking.num_positive}
    mean = evaluation.mean.average_precision["non_interpolated"]
    if mean is None or evaluation.mean.prevalence is None:
        return ["Nothing can be said about this model: no scan with a prediction is known to hold a prohibited item."]
    by_precision = sorted(rated, key=lambda name: rated[name].rank.average_precision["non_interpolated"] or 0.0)
    sentences = [
        f"Sorted by this model's scores, {_scans(evaluation.coverage.num_scans)} give a mean average precision of "
        f"{format_ratio(mean)} over {len(rated)} {'class' if len(rated) == 1 else 'classes'}; a random order would "
        f"give {format_ratio(evaluation.mean.prevalence)}, a perfect one 1."
    ]
    caught = evaluation.any_item.rank.operation.at_false_alarms.get(SUMMARY_RATE)
    if caught is not None:
        sentences.insert(0, _say_what_is_caught(evaluation, caught))
    if evaluation.top_accuracy is not None:
        sentences.insert(0, _say_what_is_guessed(evaluation, evaluation.top_accuracy))
    if len(rated) > 1:
        best, weakest = by_precision[-1], by_precision[0]
        sentences.append(
            f"{best} is found best ({format_ratio(rated[best].rank.average_precision['non_interpolated'])}), "
            f"{weakest} worst ({format_ratio(rated[weakest].rank.average_precision['non_interpolated'])})."
        )
    evaluable = sum(figures.pointing.num_evaluable for figures in rated.values())
    if evaluable:
        hits = sum(figures.pointing.num_hits for figures in rated.values())
        sentences.append(
            f"Asked where the item is, the model points inside its box in {format_percent(hits / evaluable)} of "
            f"{format_count(evaluable)} cases."
        )
    few = [name for name, figures in rated.items() if figures.rank.ranking.num_positive < FEW_POSITIVES]
    if few:
        named = (
            _join(few) if len(few) <= MAX_NAMES else f"{format_count(len(few))} of {format_count(len(rated))} classes"
        )
        sentences.append(
            f"{named} {'has' if len(few) == 1 else 'have'} fewer than {FEW_POSITIVES} positive scans here: "
            f"another sample of scans could move these figures by several hundredths."
        )
    return sentences


def _say_what_is_caught(evaluation: Evaluation, point: OperatingPoint) -> str:
    intervals = evaluation.any_item.intervals
    luck = intervals.recall_at_false_alarms[SUMMARY_RATE] if intervals else None
    range_of_luck = f" (95 % interval {format_percent_interval(luck)})" if luck else ""
    return (
        f"With the alarm set so that at most {SUMMARY_RATE} of 1,000 clean bags raise it, the model catches "
        f"{format_percent(point.recall)} of the bags that hold a prohibited item{range_of_luck}."
    )


def _say_what_is_guessed(evaluation: Evaluation, guesses: Mapping[int, TopAccuracy]) -> str:
    said = [
        f"{_say_guesses(number)} in {format_percent(of.value)}"
        + (f" (95 % interval {format_percent_interval(of.interval)})" if of.interval else "")
        for number, of in guesses.items()
        if number < len(evaluation.classes)
    ]
    return (
        f"Every scan has one of {format_count(len(evaluation.classes))} classes: that one {_join(said)} of the scans."
    )


def _say_guesses(number: int) -> str:
    return "has the highest score" if number == 1 else f"is among the {number} highest"


def say_which_is_better(comparison: Comparison) -> str:
    """Return whether a model is better than its baseline, in a plain sentence."""
    mean = comparison.mean_average_precision
    if mean.new is None or mean.baseline is None:
        return f"Nothing can be said about this model beside {comparison.baseline_id}: no scan of both holds an item."
    figures = f"mean average precision {format_ratio(mean.new)} against {format_ratio(mean.baseline)}"
    luck = f", 95 % interval of the difference {format_gain_interval(mean.interval)}" if mean.interval else ""
    verdict = {
        "better": f"This model is better than {comparison.baseline_id}",
        "worse": f"This model is worse than {comparison.baseline_id}",
        "open": f"These scans do not tell this model from {comparison.baseline_id}",
    }[mean.verdict]
    if mean.interval is None:
        verdict = f"Without resampling nobody can say whether the difference to {comparison.baseline_id} is luck"
    sentence = f"{verdict}: {figures}{luck}."
    verdicts = {name: of.average_precision.verdict for name, of in comparison.classes.items()}
    for word in ("better", "worse"):
        names = [name for name, verdict_of in verdicts.items() if verdict_of == word]
        if names and (len(verdicts) > 1):
            named = _join(names) if len(names) <= MAX_NAMES else f"{format_count(len(names))} classes"
            sentence += f" {named} {'is' if len(names) == 1 else 'are'} found {word}."
    return sentence


def list_run_facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what run.json says of how the scores were made, as (name, value); nested values get dotted names."""
    shown_elsewhere = {
        "format",
        "parts",
        "classes",
        "model_id",
        "dataset_digest",
        "datasets",
        "counts",
        "split",
        "splits",
        "sha256",  # of every part: hundreds of rows that nobody reads here
    }
    if len(run.get("engines", ())) == 1:
        shown_elsewhere.add("engines")  # the only one stands in the run's own fields
    return [fact for name, value in run.items() if name not in shown_elsewhere for fact in _flatten(name, value)]


def format_ratio(value: float | None) -> str:
    """Return a figure in [0, 1] with three places; an en dash where it is undefined."""
    return "–" if value is None else f"{value:.3f}"


def format_percent(value: float | None) -> str:
    """Return a share as a percentage with two significant places or more; an en dash where it is undefined."""
    if value is None:
        return "–"
    digits = f"{100 * value:.1f}" if value == 0 or value >= 0.001 else f"{100 * value:.2g}"
    return f"{digits}{NO_BREAK}%"


def format_count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def format_interval(interval: Interval | None) -> str:
    """Return a range of figures in [0, 1]; an en dash where it is undefined."""
    return "–" if interval is None else f"{interval.low:.3f}–{interval.high:.3f}"


def format_percent_interval(interval: Interval | None) -> str:
    """Return a range of shares as percentages; an en dash where it is undefined."""
    return "–" if interval is None else f"{100 * interval.low:.1f}–{100 * interval.high:.1f}{NO_BREAK}%"


def format_gain(value: float | None) -> str:
    """Return a difference of figures in [0, 1] with its sign; an en dash where it is undefined."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def format_gain_interval(interval: Interval | None) -> str:
    """Return a range of differences with their signs; an en dash where it is undefined."""
    return "–" if interval is None else f"{format_gain(interval.low)} to {format_gain(interval.high)}"


def format_rate(value: float | None) -> str:
    """Return a number per 1,000 with up to two places; an en dash where it is undefined."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2f}"


def format_score(value: float | None) -> str:
    """Return a score with four significant places; an en dash where it is undefined."""
    return "–" if value is None else f"{value:.4g}"


def _flatten(name: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [fact for key, inner in value.items() for fact in _flatten(f"{name}.{key}", inner)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [fact for number, item in enumerate(value, 1) for fact in _flatten(f"{name}.{number}", item)]
    if isinstance(value, list):
        return [(name, ", ".join(str(item) for item in value))]
    return [(name, "–" if value is None else str(value))]


def _scans(number: int) -> str:
    return f"{format_count(number)} {'scan' if number == 1 else 'scans'}"


def _join(names: list[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
