"""Test the record of nights: unknown is not zero, samples are bounded, what is new is not compared."""

import numpy as np
import pytest
from scipy.stats import binom

from model.monitoring import record
from model.monitoring.observations import Observations, add_alarms
from model.monitoring.record import add_night, start_record
from tests.bench.bench_drift import watch_year

THRESHOLDS = np.array([2.0, np.inf])
IDENTITY = {"model_id": "m", "reference_digest": "d" * 64, "alpha": 0.01, "by": "metadata.site"}
SHARED = {**IDENTITY, "classes": ["Gun", "Knife"], "threshold_source": "a test", "has_datasets": True}


def make_night(seed, num=400, shift=0.0, brightness=True, sites=("east", "west")):
    rng = np.random.default_rng(seed)
    logits_GK = rng.normal(size=(num, 2)) + shift
    streams = {f"score.{name}": logits_GK[:, k] for k, name in enumerate(("Gun", "Knife"))}
    streams["image.brightness"] = rng.random(num) if brightness else np.full(num, np.nan)
    streams["quarantine"] = (rng.random(num) < 0.01).astype(float)
    values_G = rng.choice([*sites], num).astype(object)
    return add_alarms(Observations(streams, values_G, logits_GK, ()), THRESHOLDS)


def make_record(nights, reference=None):
    document, sample = start_record(reference or make_night(0, 2000), SHARED, THRESHOLDS, None)
    history = [sample]
    for number, night in enumerate(nights):
        history.append(add_night(document, history, night, {"dataset_digest": f"{number}", "scored_at": None}))
    return document, history


def stream_of(document, name, value=None):
    return next(of for of in document["streams"] if (of["name"], of["value"]) == (name, value))


def test_what_the_reference_does_not_know_is_not_watched_and_what_a_night_does_not_know_proves_nothing():
    document, _ = make_record([make_night(1)], make_night(0, brightness=False))
    assert all(stream["name"] != "image.brightness" for stream in document["streams"])
    document, _ = make_record([make_night(1), make_night(2, brightness=False), make_night(3)])
    stream = stream_of(document, "image.brightness")
    assert stream["nights"][1] is None and sum(stream["rank_counts"][1]) == 0
    assert stream["nights"][2]["num"] == 400 and sum(stream["rank_counts"][2]) == 400


def test_a_night_gives_at_most_its_sample_however_many_bags_it_has():
    document, history = make_record([make_night(1, 30_000)])
    assert sum(stream_of(document, "score.Gun")["rank_counts"][0]) == record.NUM_OF_NIGHT
    assert sum(stream_of(document, "alarms")["rank_counts"][0]) == record.NUM_OF_NIGHT * record.MORE_FOR_SHARES
    assert history[1].num_rows == record.NUM_OF_NIGHT + 2 * record.NUM_OF_VALUE
    assert stream_of(document, "score.Gun")["nights"][0]["num"] == 30_000  # figures are of all


def test_alarms_are_counted_and_a_change_of_one_value_is_named():
    document, _ = make_record([make_night(seed, shift=1.0 if seed > 2 else 0.0) for seed in range(1, 6)])
    assert record.alarmed_in(document, stream_of(document, "score.Gun")) == 3
    assert "score of Gun (east)" in record.list_changed(document) and "alarms" in record.list_changed(document)
    assert document["nights"][0]["num_alarms_of_class"][1] == 0  # it never alarms
    quiet, _ = make_record([make_night(seed) for seed in range(1, 6)])
    assert record.list_changed(quiet) == []


def test_values_that_are_new_are_counted_but_not_compared():
    document, _ = make_record([make_night(1, sites=("east", "north"))])
    assert {stream["value"] for stream in document["streams"]} == {None, "east", "west"}
    assert set(document["nights"][0]["num_bags_of_value"]) == {"east", "north"}
    assert stream_of(document, "score.Gun", "west")["nights"] == [None]


def test_too_many_values_are_refused():
    with pytest.raises(ValueError, match="by must be a column of at most 50 values, got 51"):
        make_record([], make_night(0, 5000, sites=[f"s{n}" for n in range(51)]))


def test_alpha_is_shared_by_all_streams():
    document, _ = make_record([])
    assert np.exp(record.limit(document)) == pytest.approx(len(document["streams"]) / 0.01)


@pytest.mark.slow
def test_records_of_an_unchanged_year_show_a_change_in_at_most_their_share():
    # What `sixray drift` keeps, with ties and five series that share alpha; `bench_drift` has more years.
    years, alpha = 3, 0.1
    records = [watch_year(seed) | {"alpha": alpha} for seed in range(years)]
    assert all(len(of["nights"]) == 365 for of in records)
    assert sum(bool(record.list_changed(of)) for of in records) <= binom.ppf(0.999, years, alpha)


def test_a_change_late_in_a_year_is_found_within_nights():
    document = watch_year(0, num_nights=100, shift_from=90)
    assert {record.alarmed_in(document, stream_of(document, f"score.{name}")) for name in ("Gun", "Knife")} <= {
        91,
        92,
        93,
    }
    assert record.alarmed_in(document, stream_of(document, "image.brightness")) is None
