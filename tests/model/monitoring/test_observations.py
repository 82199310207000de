"""Test what a night's predictions become: bags, alarms, refusals, image statistics."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.monitoring.observations import add_alarms, observe
from shards.format.manifest import quarantine_url
from shards.format.parquet import IMAGE_FIELD, QUARANTINE_SCHEMA, predictions_schema, write_parquet
from shards.predictions.run import open_predictions
from tests.model.written import CLASSES, prediction, sample, write_dataset, write_predictions

SPLITS: dict[str, Any] = {"splits": {"test": {}}}


def observe_rows(root, samples, rows, quarantined=(), **more):
    dataset = write_dataset(root / "ds", samples, **more)
    url = write_predictions(root / "p", dataset, rows, quarantined=quarantined, **SPLITS)
    return observe(open_predictions(url), [dataset]), dataset


def test_scans_of_one_bag_are_one_with_their_highest_score(tmp_path):
    samples = [sample("a", (0, 0), group="bag"), sample("b", (0, 0), group="bag"), sample("c", (0, 0))]
    rows = [prediction("a", (1.0, -2.0)), prediction("b", (0.0, 3.0)), prediction("c", (-1.0, -1.0))]
    night, _ = observe_rows(tmp_path, samples, rows)
    assert sorted(night.logits_GK.tolist()) == [[-1, -1], [1, 3]]
    assert sorted(night.streams["score.any item"].tolist()) == [-1, 3]
    alarms = add_alarms(night, np.array([2.0, np.inf])).streams["alarms"]
    assert alarms.tolist() == [0, 0]
    assert sorted(add_alarms(night, np.array([1.0, 4.0])).streams["alarms"].tolist()) == [0, 1]


def test_refused_scans_count_by_reason_and_have_no_score(tmp_path):
    samples = [sample(key, (0, 0)) for key in "abc"]
    rows = [prediction("a", (0.0, 0.0))]
    night, _ = observe_rows(tmp_path, samples, rows, [("b", "undecodable"), ("c", "not_finite")])
    assert night.reasons == ("not_finite", "undecodable")
    assert [night.streams[f"quarantine{name}"].sum() for name in ("", ".not_finite", ".undecodable", ".other")] == [
        2, 1, 1, 0,
    ]  # fmt: skip
    assert np.isnan(night.streams["score.Gun"]).sum() == 2
    assert np.isnan(add_alarms(night, np.zeros(2)).streams["alarms"]).sum() == 2


def test_reasons_that_the_reference_did_not_have_share_a_stream(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample(key, (0, 0)) for key in "ab"])
    url = write_predictions(tmp_path / "p", dataset, [prediction("a", (0.0, 0.0))], [("b", "undecodable")], **SPLITS)
    night = observe(open_predictions(url), [dataset], reasons=("not_finite",))
    assert night.streams["quarantine.other"].sum() == 1 and night.streams["quarantine.not_finite"].sum() == 0


def test_what_conversion_refused_is_seen_if_the_datasets_are_there(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample("a", (0, 0))])
    url = write_predictions(tmp_path / "p", dataset, [prediction("a", (0.0, 0.0))], **SPLITS)
    (shard,) = dataset.manifest.shards
    object.__setattr__(shard, "num_quarantined", 1)
    row = {"source_uri": "file:///x.jpg", "key": "x", "stage": "read", "reason": "bad_jpeg", "detail": ""}
    write_parquet(quarantine_url(dataset.url, shard.name), pa.Table.from_pylist([row], QUARANTINE_SCHEMA))
    night = observe(open_predictions(url), [dataset])
    assert night.num_bags == 2 and night.streams["quarantine.bad_jpeg"].sum() == 1
    assert observe(open_predictions(url), None).num_bags == 1


def test_parts_without_image_statistics_leave_them_unknown(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample(f"{n}", (0, 0)) for n in range(4)], num_shards=2)
    rows = [prediction(f"{n}", (0.0, 0.0)) for n in range(4)]
    url = write_predictions(tmp_path / "p", dataset, rows, **SPLITS)
    night = observe(open_predictions(url), None)
    assert all(np.isnan(night.streams[f"image.{field.name}"]).all() for field in IMAGE_FIELD.type)
    # One part anew, with the column: the other stays unknown.
    image = {"width_px": 640, "height_px": 480, "brightness": 0.75, "entropy_bits": 5.5}
    schema = predictions_schema(CLASSES).append(IMAGE_FIELD)
    part = pa.Table.from_pylist([row | {"image": image} for row in rows[::2]], schema)
    write_parquet(f"{url}/{dataset.manifest.shards[0].name}.parquet", part)
    night = observe(open_predictions(url), None)
    assert np.sort(night.streams["image.brightness"])[:2].tolist() == [0.75, 0.75]
    assert np.isnan(night.streams["image.brightness"]).sum() == 2
    assert np.isnan(night.streams["image.entropy_bits"]).sum() == 2
    # Sizes are known of all where the dataset is at hand.
    assert observe(open_predictions(url), [dataset]).streams["image.width_px"].tolist() == [200] * 4


def test_the_order_of_bags_is_that_of_a_hash_not_that_of_the_shards(tmp_path):
    samples = [sample(f"{n:03}", (0, 0)) for n in range(50)]
    rows = [prediction(f"{n:03}", (float(n), 0.0)) for n in range(50)]
    one, _ = observe_rows(tmp_path / "1", samples, rows)
    two, _ = observe_rows(tmp_path / "2", samples[::-1], rows[::-1], num_shards=3)
    assert np.array_equal(one.logits_GK, two.logits_GK)
    assert not np.array_equal(np.sort(one.logits_GK[:, 0]), one.logits_GK[:, 0])


def test_values_of_a_column_divide_a_night(tmp_path):
    samples = [sample(f"{n}", (0, 0), metadata={"site": site}) for n, site in enumerate(["x", "y", None])]
    dataset = write_dataset(tmp_path / "ds", samples, metadata={"site": "string"})
    rows = [prediction(f"{n}", (0.0, 0.0)) for n in range(3)]
    url = write_predictions(tmp_path / "p", dataset, rows, **SPLITS)
    night = observe(open_predictions(url), [dataset], "metadata.site")
    assert night.value_G is not None and sorted(night.value_G) == ["(none)", "x", "y"]
    with pytest.raises(ValueError, match=r"by must be a column of the dataset's metadata \(metadata.site\)"):
        observe(open_predictions(url), [dataset], "metadata.lane")
