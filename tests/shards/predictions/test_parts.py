"""Test parts of predictions and run.json."""

import json
import random

import pyarrow as pa
import pytest

from shards import storage
from shards.format.parquet import QUARANTINE_SCHEMA, predictions_schema, write_parquet
from shards.predictions.parts import (
    Engine,
    Gpu,
    PartInfo,
    part_url,
    quarantine_part_url,
    read_part_info,
    read_part_infos,
    write_part,
)
from shards.predictions.run import (
    count_scans,
    datasets_digest,
    open_predictions,
    read_run,
    run_document,
    write_run,
)
from tests.shards.by_hand import CLASSES, make_jpeg, write_dataset

CPU = Engine("dali-cpu", "cpu", "float32", 64)
MODEL = {"model_id": "chr-resnet18-0123456789ab", "classes": CLASSES, "num_levels": 3}


def info_of(shard="test-00000-of-00001", num_scored=2, reasons=None, engine=CPU, **changes):
    reasons = reasons or {}
    values = {
        "model_id": MODEL["model_id"],
        "shard": shard,
        "shard_digest": "d" * 64,
        "split": shard.partition("-")[0],
        "num_scored": num_scored,
        "num_quarantined": sum(reasons.values()),
        "quarantined_by_reason": reasons,
        "engine": engine,
    }
    return PartInfo(**(values | changes))


def tables_of(info):
    peak = {"x_px": 1.0, "y_px": 2.0, "level": 1, "value": 0.5}
    logits = dict.fromkeys(CLASSES, 0.25)
    rows = [
        {
            "key": f"N{number}",
            "split": info.split,
            "logits": logits,
            "level_logits": [logits] * 3,
            "peaks": dict.fromkeys(CLASSES, peak),
        }
        for number in range(info.num_scored)
    ]
    refused = [
        {"source_uri": "file:///x", "key": f"Q{n}", "stage": "score", "reason": reason, "detail": "", "sha256": None}
        for reason, num in info.quarantined_by_reason.items()
        for n in range(num)
    ]
    return (
        pa.Table.from_pylist(rows, predictions_schema(CLASSES)),
        pa.Table.from_pylist(refused, QUARANTINE_SCHEMA),
    )


def write(root, info):
    table, quarantine = tables_of(info)
    write_part(str(root), table, quarantine, info)


def test_a_part_says_what_it_holds(tmp_path):
    info = info_of(reasons={"undecodable": 2, "checksum_mismatch": 1})
    write(tmp_path, info)
    assert read_part_info(str(tmp_path), info.shard) == info
    assert read_part_infos(str(tmp_path), [info.shard, "other"]) == {info.shard: info, "other": None}
    assert info.num_scans == 5


def test_equal_parts_have_equal_bytes(tmp_path):
    info = info_of(reasons={"undecodable": 1})
    write(tmp_path / "a", info)
    write(tmp_path / "b", info)
    for url in (part_url, quarantine_part_url):
        one, two = (storage.read_bytes(url(str(tmp_path / folder), info.shard)) for folder in "ab")
        assert one == two


def test_a_part_without_quarantine_leaves_no_old_quarantine_beside_it(tmp_path):
    write(tmp_path, info_of(reasons={"undecodable": 1}))
    assert (tmp_path / "quarantine/test-00000-of-00001.parquet").exists()
    write(tmp_path, info_of())
    assert not (tmp_path / "quarantine/test-00000-of-00001.parquet").exists()


@pytest.mark.parametrize("keep_bytes", [0, 3, 100, 2000])
def test_a_truncated_part_counts_as_absent(tmp_path, keep_bytes):
    info = info_of()
    write(tmp_path, info)
    path = tmp_path / f"{info.shard}.parquet"
    assert path.stat().st_size > keep_bytes
    path.write_bytes(path.read_bytes()[:keep_bytes])
    assert read_part_info(str(tmp_path), info.shard) is None


@pytest.mark.parametrize("metadata", [None, b"{}", b"not json", b'{"format": 2}', b'{"format": 1, "x": 1}'])
def test_a_part_that_does_not_say_what_it_is_counts_as_absent(tmp_path, metadata):
    info = info_of()
    table = tables_of(info)[0].replace_schema_metadata(metadata and {b"sixray": metadata})
    write_parquet(part_url(str(tmp_path), info.shard), table)
    assert read_part_info(str(tmp_path), info.shard) is None


def test_the_run_says_the_same_for_the_same_parts_in_any_order(tmp_path):
    dataset = write_dataset(tmp_path, {"test-00000-of-00001": [("N1", make_jpeg(1))]})
    parts = [
        info_of("test-00000-of-00001", 4, {"undecodable": 1}),
        info_of("train-00000-of-00002", 7),
        info_of("train-00001-of-00002", 6, {"checksum_mismatch": 2, "undecodable": 1}),
    ]
    document = run_document(MODEL, [dataset], parts, None)
    random.Random(1).shuffle(parts)
    assert json.dumps(run_document(MODEL, [dataset], parts, None)) == json.dumps(document)
    assert document["parts"] == ["test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"]
    assert document["counts"] == {
        "num_scans": 21,
        "num_scored": 17,
        "num_quarantined": 4,
        "quarantined_by_reason": {"checksum_mismatch": 2, "undecodable": 2},
    }
    assert document["splits"]["train"]["num_scored"] == 13
    assert document["dataset_digest"] == dataset.manifest.digest
    assert (document["device"], document["dtype"], document["decoder"]) == ("cpu", "float32", "dali-cpu")


@pytest.mark.parametrize("given", [{}, {"splits": ["train", "val"]}])
def test_the_run_says_what_the_model_was_trained_on_if_the_model_does(tmp_path, given):
    dataset = write_dataset(tmp_path, {"test-00000-of-00001": [("N1", make_jpeg(1))]})
    model = MODEL | {"provenance": {"dataset_digest": "d"} | given}
    document = run_document(model, [dataset], [info_of()], None)
    assert document["trained_on"] == {"dataset_digest": "d", "splits": given.get("splits", ["train"])}
    named = run_document(
        MODEL | {"provenance": {"dataset_digest": "d", "scan_checksums": "0a"} | given}, [dataset], [], None
    )
    assert named["trained_on"] == document["trained_on"] | {"checksums": "0a"}
    for other in (MODEL, MODEL | {"provenance": {"recipe": "x"}}):
        assert "trained_on" not in run_document(other, [dataset], [info_of()], None)


def test_parts_of_two_machines_have_no_one_device(tmp_path):
    dataset = write_dataset(tmp_path, {"test-00000-of-00001": [("N1", make_jpeg(1))]})
    gpu = Engine("dali-mixed", "cuda", "bfloat16", 64)
    parts = [info_of("test-00000-of-00002"), info_of("test-00001-of-00002", engine=gpu)]
    document = run_document(MODEL, [dataset], parts, "test")
    assert document["device"] is None and document["batch_size"] == 64  # what they share has its value
    assert [engine["device"] for engine in document["engines"]] == ["cpu", "cuda"]


GPU = Engine(
    "dali-mixed",
    "cuda",
    "bfloat16",
    128,
    gpu=Gpu(
        name="a card",
        hw_decoder_load=1.0,
        fancy_upsampling=True,
        tf32=False,
        cuda_graph=True,
        requested_batch_size=256,
    ),
)


def test_a_part_of_a_gpu_names_the_card_and_one_of_a_processor_has_no_such_field(tmp_path):
    dataset = write_dataset(tmp_path / "ds", {"test-00000-of-00001": [("N1", make_jpeg(1))]})
    for name, engine in (("test-00000-of-00002", GPU), ("test-00001-of-00002", CPU)):
        write(tmp_path / "p", info_of(name, engine=engine))
        found = read_part_info(str(tmp_path / "p"), name)
        assert found is not None and found.engine == engine
        document = run_document(MODEL, [dataset], [info_of(name, engine=engine)], "test")
        assert document.get("gpu") == document["engines"][0].get("gpu") == engine.to_json().get("gpu")
    assert GPU.to_json()["gpu"]["name"] == "a card" and "gpu" not in CPU.to_json()
    both = run_document(MODEL, [dataset], [info_of(engine=GPU), info_of(engine=CPU)], "test")
    assert "gpu" not in both and [engine.get("gpu") for engine in both["engines"]] == [None, GPU.to_json()["gpu"]]


def test_the_digest_of_several_datasets_ignores_their_order_and_of_one_is_its_own(tmp_path):
    one, two = (
        write_dataset(tmp_path / split, {f"{split}-00000-of-00001": [("N1", make_jpeg(1))]}) for split in ("a", "b")
    )
    assert datasets_digest([one]) == one.manifest.digest
    assert datasets_digest([one, two]) == datasets_digest([two, one])
    assert datasets_digest([one, two]) not in (one.manifest.digest, two.manifest.digest)


def test_rows_and_quarantine_of_all_parts_are_read_in_shard_order(tmp_path):
    dataset = write_dataset(tmp_path / "ds", {"test-00000-of-00001": [("N1", make_jpeg(1))]})
    parts = [info_of("test-00000-of-00002", 3, {"undecodable": 1}), info_of("train-00000-of-00001", 2)]
    for part in parts:
        write(tmp_path / "p", part)
    write_run(str(tmp_path / "p"), run_document(MODEL, [dataset], parts, None))
    opened = open_predictions(str(tmp_path / "p"))
    assert opened.model_id == MODEL["model_id"]
    assert opened.read_rows(columns=["key"])["key"].to_pylist() == ["N0", "N1", "N2", "N0", "N1"]
    assert opened.read_rows("train").num_rows == 2
    assert opened.read_quarantine()["reason"].to_pylist() == ["undecodable"]
    with pytest.raises(ValueError, match="predictions must have a part of split 'val', got"):
        opened.read_rows("val")


def test_predictions_without_a_run_are_unfinished(tmp_path):
    with pytest.raises(ValueError, match=r"predictions must have a run\.json, got none .*it resumes"):
        open_predictions(str(tmp_path))
    assert read_run(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"run\.json must be a JSON document"),
        ('{"format": 2}', "format 1, got 2"),
        ("[]", "JSON object, got a list"),
    ],
)
def test_a_run_of_another_format_is_refused(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_predictions(str(tmp_path))


def test_a_run_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_run(str(tmp_path), {"rate": float("nan")})
    assert not (tmp_path / "run.json").exists()


def test_nothing_scored_counts_as_nothing():
    assert count_scans([]) == {"num_scans": 0, "num_scored": 0, "num_quarantined": 0, "quarantined_by_reason": {}}
