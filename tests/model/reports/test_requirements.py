"""Requirements are parsed, checked against figures and baselines, and never hold for an undefined figure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.reports.requirements import check_requirements, list_figures, parse_requirement


def document(model_id="m", **roc_aucs):
    average_precision = {"non_interpolated": 0.5, "voc_all_points": 0.6, "voc2007_11_point": 0.7}
    of = {"average_precision": average_precision, "pointing_accuracy": None, "intervals": None}
    classes = {name: of | {"roc_auc": value} for name, value in roc_aucs.items()}
    counts = {"num_scans": 9, "num_missing": 0, "num_quarantined": 0, "single_label": None}
    return {
        "model_id": model_id,
        "classes": classes,
        "any_item": of | {"roc_auc": 1},
        "mean": of | {"roc_auc": 1},
    } | counts


def check(text, found, *baselines):
    return check_requirements([parse_requirement(text)], found, baselines)


@given(st.floats(0, 1), st.floats(0, 1).map(lambda value: round(value, 4)), st.sampled_from([">=", "<=", ">", "<"]))
def test_a_bound_holds_as_python_says(value, bound, operator):
    (found,) = check(f" Gun.roc_auc {operator}{bound} ", document(Gun=value))
    assert found.holds == eval(f"{value!r} {operator} {bound!r}")


def test_a_relative_bound_is_checked_with_each_baseline():
    found = check("gun.roc_auc>=baseline - 0.05", document(Gun=0.8), document("a", Gun=0.84), document("b", Gun=0.9))
    assert [(of.baseline, of.holds) for of in found] == [("a", True), ("b", False)]
    assert [of.bound for of in found] == pytest.approx([0.79, 0.85])
    assert found[1].reason == "gun.roc_auc>=baseline - 0.05: 0.8000 against 0.8500 (b)"


def test_an_undefined_figure_holds_no_bound():
    (found,) = check("gun.pointing_accuracy<1", document(Gun=1.0))
    assert not found.holds
    assert found.reason == "gun.pointing_accuracy<1: undefined against 1.0000"


def test_a_class_may_be_named_with_dots_and_spaces():
    (found,) = check("Power bank v1.2.roc_auc>0", document(**{"Power bank v1.2": 0.5}))
    assert found.holds
    assert "power bank v1.2.voc_all_points" in list_figures(document(**{"Power bank v1.2": 0.5}))
