"""Write what a reader must know before trusting the figures of a report: warnings, caveats, omissions."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from model.evaluation.evaluate import MAX_CLASSES_IN_FULL, NUM_EXTREME_CLASSES, Evaluation
from model.metrics.uncertainty.intervals import MIN_UNITS
from model.reports.text.grammar import MAX_NAMES, count_scans, inflect, join_names, list_first, name_classes
from model.reports.text.numbers import (
    format_count,
    format_percent,
)

FEW_POSITIVES = 200
"""With 190 positives a 95 % interval of an average precision is about 11 points wide."""


def list_warnings(evaluation: Evaluation) -> list[str]:
    """Return what a reader must know before trusting a figure, worst first; empty if there is nothing."""
    found, warnings = evaluation.completeness, []
    if not found.num_scans:
        warnings.append("No scan of this split has a prediction: every figure is undefined.")
    if evaluation.is_training_data:
        share = evaluation.trained_share or 0
        part = "these scans" if share == 1 else f"about {format_percent(share)} of these scans"
        warnings.append(
            f"The model was trained on {part}, split {evaluation.split} of dataset {evaluation.dataset_digest[:12]}: "
            f"the figures say nothing of new scans."
        )
    if found.num_missing:
        warnings.append(
            f"{count_scans(found.num_missing)} of {format_count(found.num_samples)} "
            f"{inflect(found.num_missing, 'has', 'have')} neither a prediction nor a reason why there is none: "
            f"{list_first(found.missing_keys, found.num_missing)}. The figures do not include them; run the scoring "
            f"again."
        )
    if found.num_quarantined:
        reasons = ", ".join(f"{reason} {format_count(n)}" for reason, n in found.quarantined_by_reason.items())
        warnings.append(
            f"{count_scans(found.num_quarantined)} of {format_count(found.num_samples)} could not be scored "
            f"({reasons}). The figures do not include them."
        )
    if found.num_crossing:
        warnings.append(
            f"{count_scans(found.num_crossing)} of this split {inflect(found.num_crossing, 'is', 'are')} byte for byte "
            f"in another split as well: {list_first(found.crossing_keys, found.num_crossing)}. A model trained on that "
            f"split has seen them, and these figures are too high."
        )
    if found.num_cut_bags:
        warnings.append(
            f"Bags of this split have scans in another split as well, {format_count(found.num_cut_bags)} in all: "
            f"{list_first(found.cut_bags, found.num_cut_bags)}. A model trained on that split has seen them; a dataset "
            f"converted with --split-policy group keeps bags whole."
        )
    unscored = {name: of.num_positive_unscored for name, of in evaluation.classes.items() if of.num_positive_unscored}
    if unscored:
        warnings.append(
            f"The predictions have no score of {name_classes([*unscored])} for "
            f"{count_scans(sum(unscored.values()))} with it: the figures of "
            f"{inflect(len(unscored), 'this class', 'these classes')} do not include them."
        )
    without = [
        name
        for name, of in evaluation.classes.items()
        if not of.rank.ranking.num_positive and not of.num_positive_unscored
    ]
    if without:
        named = (
            join_names(without, "or") if len(without) <= MAX_NAMES else f"any of {format_count(len(without))} classes"
        )
        warnings.append(
            f"No scan holds {named}: the figures of {inflect(len(without), 'this class', 'these classes')} are "
            f"undefined, and the means leave {inflect(len(without), 'it', 'them')} out."
        )
    return warnings


def list_caveats(evaluation: Evaluation, given: Mapping[str, Any] | None = None) -> list[str]:
    """Return what to know before trusting the figures of this split, besides its warnings; worst first."""
    caveats = []
    if evaluation.dataset.is_generated:
        caveats.append("The scans are generated: the figures say nothing of real baggage.")
    if evaluation.split == "train" and evaluation.is_training_data is None:
        caveats.append("The split is called train: if the model learned from it, these figures are far too high.")
    ranked = {name: of.rank for name, of in evaluation.classes.items() if of.rank.roc_auc is not None}
    if worse := [name for name, rank in ranked.items() if (rank.roc_auc or 0) < 0.5]:
        caveats.append(f"{name_classes(worse)} {inflect(len(worse), 'is', 'are')} ranked worse than by chance.")
    positives = {name: of.rank.ranking.num_positive for name, of in evaluation.classes.items()}
    if few := [name for name, number in positives.items() if 0 < number < MIN_UNITS]:
        caveats.append(f"{name_classes(few)}: fewer than {MIN_UNITS} positive scans, too few for an interval.")
    if evaluation.alarm_plans and not is_found_elsewhere(given):
        caveats.append(
            "Thresholds were chosen on the scans they are rated on: new scans will show somewhat more false alarms."
        )
    if evaluation.bootstrap and not evaluation.dataset.has_groups:
        caveats.append(
            "The dataset does not say which scans show one bag. If bags were scanned more than once, the intervals are "
            "too narrow."
        )
    return caveats


def describe_omissions(evaluation: Evaluation) -> str | None:
    """Return what a report of many classes leaves out; None if it leaves nothing out."""
    if evaluation.is_in_full:
        return None
    return (
        f"{format_count(len(evaluation.classes))} classes are more than the {MAX_CLASSES_IN_FULL} that a report shows "
        f"one by one: there are no charts and no counts at every threshold for each class, and no table of confusions. "
        f"The chart and the pictures show the {NUM_EXTREME_CLASSES} weakest and the {NUM_EXTREME_CLASSES} best "
        f"classes; all figures are in metrics.json, classes.csv, alarms.csv and strata.csv."
    )


def is_found_elsewhere(given: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Return whether thresholds were given, and found on other scans than they are rated on."""
    return given is not None and not given["found_on_these_scans"]
