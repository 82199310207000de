"""Write the findings of an evaluation as plain sentences: headline, summary, verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.evaluation.alarm_plans import ALARM_RATE, AlarmPlans
from model.evaluation.comparison import SIDES_RATE, Comparison
from model.evaluation.evaluate import Evaluation
from model.evaluation.top_k import TopKAccuracy
from model.metrics.uncertainty.intervals import Interval
from model.reports.text.caveats import FEW_POSITIVES, is_found_elsewhere
from model.reports.text.grammar import MAX_NAMES, count_scans, inflect, join_names
from model.reports.text.numbers import (
    format_count,
    format_gain_interval,
    format_percent,
    format_percent_interval,
    format_rate,
    format_ratio,
)

_FUSIONS = {
    "max": "each with the highest score of its scans",
    "mean": "each with the mean logit of its scans",
    "noisy-or": "each with the noisy or of its scans' scores",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """What a report says first."""

    title: str
    detail: str


def state_headline(evaluation: Evaluation, given: Mapping[str, Any] | None = None) -> Headline:
    """Return what the model catches at the budget of false alarms, or how often its first class is right.

    Thresholds that were `given` and found on other scans replace those of the budget: their figures are not too good.
    """
    if evaluation.top_k_accuracy is not None:
        accuracy = evaluation.top_k_accuracy[1]
        detail = _state_top_k(evaluation, evaluation.top_k_accuracy)
        return Headline(f"Names the right class in {format_percent(accuracy.value)} of the scans", detail)
    if is_found_elsewhere(given) and given["recall"] is not None and given["num_clean"]:
        return _state_given(given)
    plans = evaluation.alarm_plans.get(ALARM_RATE)
    if plans is None or plans.joint.recall is None:
        return Headline("Catches cannot be counted in this split", summarise(evaluation)[0])
    caught = plans.joint
    title = (
        f"Catches {format_percent(caught.recall)} of the bags with a prohibited item "
        f"at {ALARM_RATE} false alarms per 1,000 clean bags"
    )
    counts = (
        f"{format_count(caught.num_caught)} of {format_count(caught.num_with_item)} bags with an item raise an alarm"
    )
    clean = f"{format_count(caught.num_false)} of {format_count(caught.num_clean)} clean ones do"
    note = "; too few bags for an interval" if evaluation.bootstrap else ""
    note = _state_interval(plans.joint_interval) if plans.joint_interval else note
    return Headline(title, f"{counts}, and {clean}{note}.")


def describe_alarm_thresholds(evaluation: Evaluation) -> str:
    """Return at which thresholds misses and false alarms are counted."""
    return {
        "given": "at the given thresholds",
        "joint": f"at the thresholds of {ALARM_RATE} false alarms per 1,000 clean bags over all classes together",
        "per_class": f"at {ALARM_RATE} false alarms per 1,000 scans for each class alone, as no bag is clean",
    }[evaluation.alarm_thresholds.rule]


def _state_given(given: Mapping[str, Any]) -> Headline:
    missed = given["any_item"]["misses"]["interval"]
    recall = Interval(1 - missed["high"], 1 - missed["low"]) if missed else None
    note = _state_interval(recall) if recall else ""
    return Headline(
        f"Catches {format_percent(given['recall'])} of the bags with a prohibited item "
        f"at {format_rate(given['false_alarms_per_1000'])} false alarms per 1,000 clean bags",
        f"{format_count(given['num_caught'])} of {format_count(given['num_with_item'])} bags with an item raise an "
        f"alarm, and {format_count(given['num_false'])} of {format_count(given['num_clean'])} clean ones do, at the "
        f"given thresholds, which were found on split {given['origin']['split']}, not on these scans{note}.",
    )


def _state_interval(interval: Interval) -> str:
    return f"; the 95 % interval of the share caught is {format_percent_interval(interval)}"


def summarise(evaluation: Evaluation) -> list[str]:
    """Return the main results, the most important first."""
    rated = {name: figures for name, figures in evaluation.classes.items() if figures.rank.ranking.num_positive}
    mean = evaluation.mean.average_precision["non_interpolated"]
    if mean is None or evaluation.mean.prevalence is None:
        return ["Every figure is undefined: no scan with a prediction is known to hold a prohibited item."]
    by_precision = sorted(rated, key=lambda name: rated[name].rank.average_precision["non_interpolated"] or 0.0)
    rows = count_scans(evaluation.completeness.num_scans)
    if evaluation.fusion:
        rows = f"{format_count(evaluation.bags.num)} bags ({_FUSIONS[evaluation.fusion]})"
    sentences = [
        f"Sorted by this model's scores, {rows} give a mean average precision of "
        f"{format_ratio(mean)} over {format_count(len(rated))} {inflect(len(rated), 'class', 'classes')}; a random "
        f"order would give {format_ratio(evaluation.mean.prevalence)}, a perfect one 1."
    ]
    plans = evaluation.alarm_plans.get(ALARM_RATE)
    if plans is not None and plans.joint.recall is not None:
        sentences.insert(0, _state_recall(plans))
    if evaluation.top_k_accuracy is not None:
        sentences.insert(0, _state_top_k(evaluation, evaluation.top_k_accuracy))
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
            f"The peak of the heatmap lies inside a box of the item in {format_percent(hits / evaluable)} of "
            f"{format_count(evaluable)} cases."
        )
    few = [name for name, figures in rated.items() if figures.rank.ranking.num_positive < FEW_POSITIVES]
    if few:
        named = (
            join_names(few)
            if len(few) <= MAX_NAMES
            else f"{format_count(len(few))} of {format_count(len(rated))} classes"
        )
        sentences.append(
            f"{named} {inflect(len(few), 'has', 'have')} fewer than {FEW_POSITIVES} positive scans here: "
            f"with other scans these figures could differ by several hundredths."
        )
    return sentences


def _state_recall(plans: AlarmPlans) -> str:
    note = f" (95 % interval {format_percent_interval(plans.joint_interval)})" if plans.joint_interval else ""
    return (
        f"With thresholds at which at most {ALARM_RATE} of 1,000 clean bags raise an alarm of any class, the model "
        f"catches {format_percent(plans.joint.recall)} of the bags that hold a prohibited item{note}."
    )


def _state_top_k(evaluation: Evaluation, accuracies: Mapping[int, TopKAccuracy]) -> str:
    parts = [
        f"{_describe_rank(number)} in {format_percent(of.value)}"
        + (f" (95 % interval {format_percent_interval(of.interval)})" if of.interval else "")
        for number, of in accuracies.items()
        if number < len(evaluation.classes)
    ]
    number = format_count(len(evaluation.classes))
    return f"Every scan has one of {number} classes: that one {join_names(parts)} of the scans."


def _describe_rank(number: int) -> str:
    return "has the highest score" if number == 1 else f"is among the {number} highest"


def state_verdict(comparison: Comparison) -> str:
    """Return whether a model is better than its baseline, by the figure that decides."""
    deciding, baseline = comparison.deciding, comparison.baseline_id
    if deciding.new is None or deciding.baseline is None:
        return f"This model cannot be compared with {baseline}: no scan that both scored holds an item."
    if comparison.decide_by == "mean_average_precision":
        figures = f"mean average precision {format_ratio(deciding.new)} against {format_ratio(deciding.baseline)}"
    else:
        figures = (
            f"at {SIDES_RATE} false alarms per 1,000 it catches {format_percent(deciding.new)} of the scans with "
            f"an item against {format_percent(deciding.baseline)}"
        )
    interval = f", 95 % interval of the difference {format_gain_interval(deciding.interval)}"
    verdict = {
        "better": f"This model is better than {baseline}",
        "worse": f"This model is worse than {baseline}",
        "open": f"These scans do not show a difference between this model and {baseline}",
    }[deciding.verdict]
    if deciding.interval is None:
        verdict, interval = f"The difference from {baseline} has no confidence interval", ""
    sentence = f"{verdict}: {figures}{interval}."
    verdicts = comparison.class_verdicts
    for word in ("better", "worse"):
        names = [name for name, verdict_of in verdicts.items() if verdict_of == word]
        if names and len(verdicts) > 1:
            named = join_names(names) if len(names) <= MAX_NAMES else f"{format_count(len(names))} classes"
            sentence += f" {named} {inflect(len(names), 'is', 'are')} found {word}."
    return sentence
