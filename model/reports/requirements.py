"""Check figures of a report against what is required of them, such as `gun.recall_at_10>=baseline-0.02`."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FORM = re.compile(
    r"(?P<figure>.+?)\s*(?P<operator>>=|<=|>|<)\s*"
    r"(?:(?P<number>[-+]?[\d.]+(?:e[-+]?\d+)?)|(?P<baseline>baseline)\s*(?P<margin>[-+]\s*[\d.]+)?)",
    re.IGNORECASE,
)
_HOLDS = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}
NUM_NEAREST = 3
"""Figures that a message names beside an unknown one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A bound of one figure."""

    text: str
    """As it was written."""
    figure: str
    """In lower case, e.g. `mean.average_precision`; see `list_figures`."""
    operator: str
    bound: float
    """Added to the baseline's figure if `is_relative`."""
    is_relative: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Whether a requirement holds."""

    requirement: str
    value: float | None
    bound: float | None
    """None if it is the baseline's figure and that is undefined."""
    holds: bool
    """Never where a figure is undefined."""
    baseline: str | None
    """Model id of the baseline; None for a bound that is a number."""

    @property
    def reason(self) -> str:
        """A sentence for logs."""
        beside = f" ({self.baseline})" if self.baseline else ""
        value, bound = ("undefined" if of is None else f"{of:.4f}" for of in (self.value, self.bound))
        return f"{self.requirement}: {value} against {bound}{beside}"


def parse_requirement(text: str) -> Requirement:
    """Return a requirement; ValueError if it has another form."""
    found = _FORM.fullmatch(text.strip())
    try:
        if not found:
            raise ValueError
        number = found["number"] or (found["margin"] or "0").replace(" ", "")
        return Requirement(
            text=text,
            figure=found["figure"].strip().lower(),
            operator=found["operator"],
            bound=float(number),
            is_relative=found["baseline"] is not None,
        )
    except ValueError:
        raise ValueError(
            f"requirement must be FIGURE>=NUMBER or FIGURE>=baseline-NUMBER (or <=, >, <), got {text!r}"
        ) from None


def check_requirements(
    requirements: Sequence[Requirement], document: Mapping[str, Any], baselines: Sequence[Mapping[str, Any]]
) -> list[Checked]:
    """Return whether each requirement holds, relative ones for each of the baselines.

    Args:
        requirements: any number.
        document: metrics.json.
        baselines: metrics.json of each baseline.

    Raises:
        ValueError: a figure is unknown.
    """
    figures, theirs = list_figures(document), [(of["model_id"], list_figures(of)) for of in baselines]
    checked = []
    for requirement in requirements:
        for known in (figures, *(of for _, of in theirs if requirement.is_relative)):
            _check_known(requirement, known)
        value = figures[requirement.figure]
        bounds: list[tuple[str | None, float | None]] = [(None, requirement.bound)]
        if requirement.is_relative:
            bounds = [(name, _add(of[requirement.figure], requirement.bound)) for name, of in theirs]
        for name, bound in bounds:
            holds = value is not None and bound is not None and _HOLDS[requirement.operator](value, bound)
            checked.append(Checked(requirement=requirement.text, value=value, bound=bound, holds=holds, baseline=name))
    return checked


def list_figures(document: Mapping[str, Any]) -> dict[str, float | None]:
    """Return every figure that can be required, by its name in lower case.

    `mean.FIGURE`, `any_item.FIGURE` and `CLASS.FIGURE`, where FIGURE is `average_precision`, `voc_all_points`,
    `voc2007_11_point`, `roc_auc`, `pointing_accuracy`, `recall_at_N` (N false alarms per 1,000), `false_alarms_at_P`
    (per 1,000, at P per cent recall), `best_f1`, `brier`, `expected_calibration_error`; with `.low` or `.high` the end
    of its interval. `ap50` and `ap50_95` of detections have none. Also `mean.top1_accuracy`, `mean.top5_accuracy`,
    `num_scans`, `num_missing`, `num_quarantined`.
    """
    found: dict[str, float | None] = {name: document[name] for name in ("num_scans", "num_missing", "num_quarantined")}
    subjects = {**document["classes"], "any_item": document["any_item"], "mean": document["mean"]}
    subjects["mean"] = subjects["mean"] | (document["single_label"] or {})
    for name, of in subjects.items():
        found |= {f"{name}.{figure}".lower(): value for figure, value in _list_of(of)}
    if detection := document.get("detection"):
        for name, of in [*detection["classes"].items(), ("mean", detection["mean"])]:
            found |= {f"{name}.{figure}".lower(): of[figure] for figure in ("ap50", "ap50_95")}
    return found


def _list_of(of: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    precision, calibration = of["average_precision"], of.get("calibration", {})
    values = {
        "average_precision": precision["non_interpolated"],
        **{name: value for name, value in precision.items() if name != "non_interpolated"},
        **{name: of[name] for name in ("roc_auc", "pointing_accuracy", "top1_accuracy", "top5_accuracy") if name in of},
        **{f"recall_at_{rate}": at["recall"] for rate, at in of.get("at_false_alarms_per_1000", {}).items()},
        **{
            f"false_alarms_at_{100 * float(share):g}": at["false_alarms_per_1000"]
            for share, at in of.get("at_recall", {}).items()
        },
        **{name: value for name, value in calibration.items() if name != "bins"},
    }
    if of.get("best_f1"):
        values["best_f1"] = of["best_f1"]["f1"]
    intervals = of.get("intervals") or {}
    ends = {name: interval for name, interval in intervals.items() if isinstance(interval, dict) and "low" in interval}
    for name, prefix, scale in (
        ("recall_at_false_alarms_per_1000", "recall_at_", 1),
        ("false_alarms_per_1000_at_recall", "false_alarms_at_", 100),
    ):
        ends |= {
            f"{prefix}{scale * float(at):g}": interval for at, interval in intervals.get(name, {}).items() if interval
        }
    return [
        *values.items(),
        *((f"{name}.{end}", of_end[end]) for name, of_end in ends.items() for end in ("low", "high")),
    ]


def _check_known(requirement: Requirement, known: Mapping[str, float | None]) -> None:
    if requirement.figure not in known:
        nearest = difflib.get_close_matches(requirement.figure, known, NUM_NEAREST)
        figures = [name.removeprefix("any_item.") for name in known if name.startswith("any_item.")]
        raise ValueError(
            f"requirement must be of a known figure, got {requirement.figure!r} ({requirement.text}); "
            f"nearest: {', '.join(nearest) or 'none'}; after 'mean.', 'any_item.' or a class and '.' stand "
            f"{', '.join(name for name in figures if not name.endswith(('.low', '.high')))}, "
            f"with .low or .high for an end of an interval"
        )


def _add(value: float | None, margin: float) -> float | None:
    return None if value is None else value + margin
