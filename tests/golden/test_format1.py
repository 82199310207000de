"""Holds that what an earlier state of the code wrote is read, continued and written the same by this one.

`regenerate_format1.py` made the fixtures in `format1/`. Bytes are compared where they follow from the input alone;
scores and weights, whose last bits differ between kinds of processors, by value; tables that another release of pyarrow
wrote, by what they say.
"""

import hashlib
import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Callback
from safetensors import safe_open

from tests.golden import steps
from tests.golden.comparisons import (
    EXPECTED,
    LOGITS_ATOL,
    WEIGHTS_ATOL,
    assert_close,
    assert_same_dataset,
    assert_same_file,
    assert_same_manifest,
    assert_same_scores,
    cells_of,
    is_same_pyarrow,
    run_facts,
    shape_of,
    stamps_of,
)
from tests.golden.steps import ALARMS, CORPUS, DATASET, LABELS, MODEL, REPORT, RUN

MODEL_ID, SXMNET_ID = "chr-golden_resnet-71275f9e7d76", "sxmnet-golden_resnet-7fd43f1ea523"
PREDICTIONS = steps.PREDICTIONS / MODEL_ID


@pytest.fixture(scope="module")
def sxmnet(tmp_path_factory):
    """The folder of the pyramid network, its weights as they were before they were compressed."""
    folder = tmp_path_factory.mktemp("sxmnet")
    shutil.copy(steps.SXMNET / "config.json", folder)
    with pa.input_stream(steps.SXMNET_WEIGHTS, compression="zstd") as weights:
        (folder / "model.safetensors").write_bytes(weights.read())
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """What the corpus is converted to."""
    output = tmp_path_factory.mktemp("converted") / "dataset"
    assert steps.convert(output) == 0
    return output


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The folder of the stopped run once it was gone on with, and the steps that were taken for it."""
    folder = tmp_path_factory.mktemp("resumed") / "run"
    shutil.copytree(RUN, folder)
    taken = []

    class Record(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            taken.append(trainer.global_step)

    assert steps.train_run(folder, [Record()]) == folder / "model"
    return folder, taken


def test_the_dataset_is_whole(capsys):
    assert steps.run("verify", DATASET) == 0
    assert steps.run("verify", DATASET, "--quick") == 0
    assert "whole: 72 scans in 5 shards" in capsys.readouterr().out


def test_the_predictions_are_whole(capsys):
    assert steps.run("verify", PREDICTIONS) == 0
    assert "whole: predictions of 72 scans" in capsys.readouterr().out


def test_the_corpus_converts_to_the_same_dataset(converted):
    found, expected = steps.files_of(converted), steps.files_of(DATASET)
    documents = [files.pop("dataset.json") for files in (found, expected)]
    assert list(found) == list(expected)
    for name, data in expected.items():
        assert_same_file(name, found[name], data)
    assert_same_manifest(documents[0], documents[1], with_table_checksums=is_same_pyarrow(found))
    names = [name for name in json.loads(documents[0]) if name != "attestation"]  # datasets of format 1 had none
    assert names == list(json.loads(documents[1]))


def test_a_finished_dataset_is_left_as_it_is(tmp_path):
    shutil.copytree(DATASET, tmp_path / "dataset")
    before = stamps_of(tmp_path / "dataset")
    assert steps.convert(tmp_path / "dataset") == 0
    rewritten = {name for name, stamp in stamps_of(tmp_path / "dataset").items() if stamp != before[name]}
    # The manifest names the format and the versions of the software, the rows get the columns of format 2.
    assert all(name == "dataset.json" or name.startswith("samples/") for name in rewritten)


@pytest.mark.parametrize("name", steps.RESHARDS)
def test_the_dataset_reshards_to_the_same_bytes(tmp_path, name):
    assert steps.reshard(name, tmp_path / "dataset") == 0
    assert_same_dataset(tmp_path / "dataset", EXPECTED["reshards"][name])
    if name == "ten":
        check_subset({row["key"] for row in steps.rows_of(tmp_path / "dataset/samples")})


def test_a_corpus_without_lists_gives_the_same_positives_with_the_same_of_them_for_testing(tmp_path):
    assert steps.convert_positives(tmp_path / "dataset") == 0
    assert_same_dataset(tmp_path / "dataset", EXPECTED["positives"])
    split_of = {row["key"]: row["split"] for row in steps.rows_of(tmp_path / "dataset/samples")}
    tested = sorted(split_of, key=lambda key: subset_hash(key)[8:])[: (len(split_of) + 2) // 5]
    assert {key for key, split in split_of.items() if split == "test"} == set(tested)


@pytest.mark.parametrize(("name", "model_id"), [("model", MODEL_ID), ("model_sxmnet", SXMNET_ID)])
def test_a_model_loads_under_its_id_and_is_saved_as_it_was(name, model_id, sxmnet, tmp_path):
    folder = MODEL if name == "model" else sxmnet
    model = steps.load_model(str(folder))
    assert model.model_id == model_id == EXPECTED["model_ids"][name]
    with safe_open(folder / "model.safetensors", framework="np") as handle:
        assert set(model.network.state_dict()) == set(handle.keys())
    assert steps.save_model(str(tmp_path), model.network, model.config, model.provenance) == model_id
    assert steps.files_of(tmp_path) == steps.files_of(folder)


def test_the_dataset_is_scored_as_it_was(tmp_path):
    assert steps.score(MODEL, tmp_path) == 0
    found, expected = steps.files_of(tmp_path / MODEL_ID), steps.files_of(PREDICTIONS)
    assert list(found) == list(expected)
    for name, data in expected.items():
        if name == "run.json":
            assert run_facts(found[name]) == run_facts(data)
        elif name.startswith("quarantine/"):
            assert_same_file(name, found[name], data)
        else:
            assert_same_scores(found[name], data)


def test_the_pyramid_network_scores_the_test_split_as_it_did(sxmnet, tmp_path):
    assert steps.score(sxmnet, tmp_path, "--split=test") == 0
    found = {
        row["key"]: [list(of.values()) for of in (row["logits"], *row["level_logits"])]
        for row in steps.rows_of(tmp_path / SXMNET_ID)
    }
    assert list(found) == list(EXPECTED["sxmnet_scores"])
    for key, logits in EXPECTED["sxmnet_scores"].items():
        np.testing.assert_allclose(found[key], logits, rtol=0, atol=LOGITS_ATOL, err_msg=key)


def test_interrupted_predictions_are_completed_and_what_is_there_is_left_alone(tmp_path):
    folder, missing = tmp_path / MODEL_ID, "test-00000-of-00002.parquet"
    shutil.copytree(PREDICTIONS, folder)
    (folder / missing).unlink()
    before = stamps_of(folder)
    assert steps.score(MODEL, tmp_path) == 0
    after = stamps_of(folder)
    changed = {name for name, stamp in after.items() if before.get(name) != stamp}
    assert changed == {missing, "run.json"}
    assert set(after) == set(before) | {missing}
    assert_same_scores((folder / missing).read_bytes(), (PREDICTIONS / missing).read_bytes())
    run = json.loads((folder / "run.json").read_bytes())
    assert run["timings"]["num_scans"] == pq.read_metadata(PREDICTIONS / missing).num_rows
    assert run_facts((folder / "run.json").read_bytes()) == run_facts((PREDICTIONS / "run.json").read_bytes())
    assert steps.run("verify", folder) == 0


def test_complete_predictions_are_not_touched(tmp_path):
    shutil.copytree(PREDICTIONS, tmp_path / MODEL_ID)
    before = stamps_of(tmp_path)
    assert steps.score(MODEL, tmp_path) == 0
    assert stamps_of(tmp_path) == before


def test_the_stopped_run_takes_the_steps_that_are_left_and_ends_with_the_same_weights(resumed):
    folder, taken = resumed
    expected = EXPECTED["run"]
    assert steps.read_checkpoint(str(RUN / "checkpoints/last.ckpt"))["global_step"] == steps.STOPPED_BEFORE_STEP
    assert taken == list(range(steps.STOPPED_BEFORE_STEP + 1, expected["num_steps"] + 1))
    last = steps.read_checkpoint(str(folder / "checkpoints/last.ckpt"))
    assert (last["global_step"], last["feed"]) == (expected["num_steps"], expected["feed"])
    with np.load(steps.FINAL_WEIGHTS) as weights:
        assert list(last["state_dict"]) == weights.files
        for name in weights.files:
            found = last["state_dict"][name].numpy()
            np.testing.assert_allclose(found, weights[name], rtol=0, atol=WEIGHTS_ATOL, err_msg=name)


def test_the_stopped_run_ends_with_the_same_best_epoch_and_the_same_model(resumed):
    folder, _ = resumed
    keeper = steps.read_checkpoint(str(folder / "checkpoints/last.ckpt"))["callbacks"]["CheckpointKeeper"]
    assert_close(keeper, EXPECTED["run"]["keeper"], rel=1e-3)
    found, expected = (json.loads((model / "config.json").read_bytes()) for model in (folder / "model", MODEL))
    for document in (found, expected):
        del document["weights_sha256"], document["provenance"]["versions"]
        for later in ("scan_checksums", "levels"):
            document["provenance"].pop(later, None)
    assert_close(found, expected, rel=1e-3)
    assert list(found["provenance"]) == list(expected["provenance"])
    assert (folder / "run.json").read_bytes() == (RUN / "run.json").read_bytes()


def test_a_run_that_begins_records_what_the_stopped_one_did(tmp_path):
    with pytest.raises(steps.StoppedError):
        steps.train_run(tmp_path, [steps.StopBefore(1)], checkpoint_seconds=0.0)
    found, expected = (json.loads((run / "run.json").read_bytes()) for run in (tmp_path, RUN))
    assert found | {"versions": {}} == expected | {"versions": {}}
    found, expected = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (tmp_path, RUN))
    del found["level_counts"]  # added by later releases
    del found["callbacks"], expected["callbacks"]  # one run has rated an epoch, the other none yet
    assert shape_of(found) == shape_of(expected)


def fields_of(found, expected, changed=("format", "files", "intervals", "comparison", "mistakes")):
    """Return what two metrics.json have in common: format 2 adds fields, and has other intervals and comparisons.

    It counts misses at the thresholds of the headline, format 1 at those of each class alone.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        names = [name for name in expected if name not in changed]
        return {
            name: fields_of(found[name], expected[name], ("recall",) * (name == "strata") + changed) for name in names
        }
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [fields_of(*pair, changed) for pair in zip(found, expected, strict=True)]
    return found


def test_the_predictions_are_evaluated_as_they_were(tmp_path):
    assert steps.evaluate(PREDICTIONS, tmp_path) == 0
    found, expected = (json.loads((folder / "metrics.json").read_bytes()) for folder in (tmp_path, REPORT))
    assert set(found["files"]) | {"metrics.json"} == set(steps.files_of(tmp_path))
    assert set(found["files"]) > set(expected["files"])
    assert (found["format"], expected["format"]) == (2, 1)
    assert_close(fields_of(found, expected), fields_of(expected, expected), rel=1e-9)


def test_the_same_scans_alarm(tmp_path):
    assert steps.list_alarms(PREDICTIONS, tmp_path) == 0
    assert sorted(steps.files_of(tmp_path)) == sorted(steps.files_of(ALARMS))
    for name in ("alarms.csv", "unscored.csv"):
        assert_close(cells_of(tmp_path / name), cells_of(ALARMS / name), rel=1e-9)
    tables = [steps.table_document((folder / "alarms.parquet").read_bytes()) for folder in (tmp_path, ALARMS)]
    assert_close(tables[0], tables[1], rel=1e-9)
    found, expected = (json.loads((folder / "alarms.json").read_bytes()) for folder in (tmp_path, ALARMS))
    assert found | {"versions": {}} == expected | {"versions": {}}


def test_the_scans_prefer_the_same_levels(tmp_path):
    assert steps.label_levels(PREDICTIONS, tmp_path / LABELS.name) == 0
    assert_same_file(LABELS.name, (tmp_path / LABELS.name).read_bytes(), LABELS.read_bytes())


# The tests above hold that code writes what the fixtures have; those below, what that is, in words of their own.


def test_every_document_says_that_it_is_of_format_1():
    documents = [
        DATASET / "dataset.json",
        MODEL / "config.json",
        steps.SXMNET / "config.json",
        RUN / "run.json",
        PREDICTIONS / "run.json",
        REPORT / "metrics.json",
        ALARMS / "alarms.json",
    ]
    assert [json.loads(path.read_bytes())["format"] for path in documents] == [1] * 7


def test_tables_keep_what_they_say_of_themselves_under_fixed_names():
    for path in DATASET.glob("samples/*.parquet"):
        ((key, text),) = (pq.read_schema(path).metadata or {}).items()
        assert key == b"sixray"
        assert set(json.loads(text)) == {
            "plan", "digest", "tar_bytes", "image_bytes", "num_quarantined", "num_retryable"
        }  # fmt: skip
    for path in PREDICTIONS.glob("*.parquet"):
        ((key, text),) = (pq.read_schema(path).metadata or {}).items()
        part = json.loads(text)
        assert (key, part["format"], part["model_id"]) == (b"sixray", 1, MODEL_ID)
        assert set(part) == {
            "engine", "format", "model_id", "num_quarantined", "num_scored", "quarantined_by_reason", "shard",
            "shard_digest", "split",
        }  # fmt: skip
    ((key, text),) = (pq.read_schema(LABELS).metadata or {}).items()
    assert (key, json.loads(text)["format"]) == (b"sixray-level-labels", 1)


def test_a_scan_lies_where_the_keyed_hash_of_its_key_says(converted):
    for row in steps.rows_of(converted / "samples"):
        split, index, _, num = row["shard"].removesuffix(".tar").split("-")
        digest = hashlib.blake2b(row["key"].encode(), key=b"sixray dataset format 1", digest_size=8).digest()
        assert int.from_bytes(digest, "big") * int(num) >> 64 == int(index), row["key"]
        assert split == row["split"]


def check_subset(keys):
    """Check that a subset took its negatives by the keyed hash of their keys."""
    rows = steps.rows_of(DATASET / "samples")
    candidates = {row["key"] for row in rows if row["key"].startswith("N") and row["labels"]["Gun"] is not None}
    chosen = sorted(candidates, key=lambda key: subset_hash(key)[:8])[: 10 * len(steps.TEN_POSITIVES)]
    assert keys == {*chosen, *steps.TEN_POSITIVES}


def subset_hash(key: str) -> bytes:
    """Return the 8 bytes that choose, and the 8 that split."""
    salt = steps.SEED.to_bytes(16, "big", signed=True)
    return hashlib.blake2b(key.encode(), key=b"sixray subsets format 1", salt=salt, digest_size=16).digest()


def test_a_run_holds_out_scans_by_the_keyed_hash_of_their_keys():
    rows = [row for row in steps.rows_of(DATASET / "samples") if row["split"] == "train"]
    kept = [row for row in rows if hold_out_hash(row["duplicate_of"] or row["key"]) >= 0.25]
    num_positive = sum(1 in list(row["labels"].values())[:5] for row in kept)
    assert 0 < len(kept) < len(rows)
    assert EXPECTED["run"]["num_steps"] == 2 * math.ceil((len(kept) + num_positive) / 4)


def hold_out_hash(key: str) -> float:
    digest = hashlib.blake2b(key.encode(), key=b"hold-out:1", digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def test_runs_name_what_they_were_told_as_they_did():
    # Later ones are free, and `default` and `demo` are what was measured best; DenseNet's levels gained norm and ReLU.
    pinned = {name: digest for name, digest in EXPECTED["recipes"].items() if name not in ("default", "demo")}
    pinned = {name: digest for name, digest in pinned.items() if "densenet" not in name}
    recipes = {name: steps.RECIPES[name]() for name in pinned}
    assert {name: steps.config_sha256(recipe) for name, recipe in recipes.items()} == pinned
    documents = [steps.RECIPES[name]().to_json() for name in EXPECTED["recipes"]]
    names = {part: {document[part]["name"] for document in documents} for part in ("optimizer", "schedule", "loss")}
    assert names == {
        "optimizer": {"AdamW", "Sgd"},
        "schedule": {"CosineSchedule", "StepSchedule"},
        "loss": {"AttentionLossConfig", "FusedLossConfig", "LossConfig", "MetaLossConfig", "SoftmaxConfig"},
    }
    told = json.loads((RUN / "run.json").read_bytes())["config"]
    assert told["optimizer"] == {"name": "AdamW", "weight_decay": 0.01}
    assert told["schedule"] == {"name": "CosineSchedule", "warmup_fraction": 0.1}
    assert told["loss"] == {"name": "LossConfig", "balanced": True, "threshold": 0.05}


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_has_fixed_keys_and_plain_values_alone(name, resumed):
    for run in (RUN, resumed[0]):
        checkpoint = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)
        assert checkpoint.keys() - {"level_counts"} == {
            "callbacks", "epoch", "feed", "global_step", "loops", "lr_schedulers", "optimizer_states",
            "pytorch-lightning_version", "state_dict",
        }  # fmt: skip
        assert set(checkpoint["feed"]) == {"epoch", "next_batch"}
        assert list(checkpoint["callbacks"]) == ["CheckpointKeeper"]
        assert set(checkpoint["callbacks"]["CheckpointKeeper"]) == {"best", "num_epochs"}
        assert set(checkpoint["callbacks"]["CheckpointKeeper"]["best"]) == {"epoch", "rating"}
        assert {key.split(".")[0] for key in checkpoint["state_dict"]} == {"network"}


def test_models_name_their_parts_as_they_did(sxmnet):
    parts = []
    for folder in (MODEL, sxmnet):
        with safe_open(folder / "model.safetensors", framework="np") as handle:
            parts.append({key.split(".")[0] for key in handle.keys()})  # noqa: SIM118
    assert parts == [
        {"backbone", "refiners", "classifiers"},
        {"backbone", "pyramid", "attention", "classifiers", "selection"},
    ]
    config = json.loads((sxmnet / "config.json").read_bytes())
    assert config["attention"] == {"num_upsamples": 1, "sees_image": True}
    assert (config["fusion"], config["trim_margins"]) == ("meta", True)
    assert not {"attention", "fusion", "trim_margins"} & set(json.loads((MODEL / "config.json").read_bytes()))


def test_no_table_holds_a_version_of_the_software():
    for path in steps.ROOT.rglob("*.parquet"):
        text = json.dumps(steps.table_document(path.read_bytes())).lower()
        assert "version" not in text and "created" not in text, path


def test_the_fixtures_stay_small():
    sizes = [path.stat().st_size for path in steps.ROOT.rglob("*") if path.is_file()]
    assert sum(sizes) < 1_000_000
    assert max(sizes) < 300_000
    assert len(list(CORPUS.glob("JPEGImage/*.jpg"))) == 74
