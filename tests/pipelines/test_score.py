"""Does `sixray score` leave whole, true predictions behind, and nothing to do for the second run?"""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import torch

from model.config import ModelConfig
from model.engine_choice import EngineWish
from model.network import build_network
from model.store import save_model
from pipelines import cli, score
from pipelines.beam import make_beam_options, make_pipeline
from pipelines.score import ScoreConfig, ScoreShard
from shards.dataset import open_dataset
from shards.predictions import open_predictions
from shards.resume import plan_scoring
from shards.scan_reader import read_rows
from tests.shards.by_hand import CLASSES, bogus_huffman, make_jpeg, overwrite, small_dataset, write_dataset

TEST, TRAIN_0, TRAIN_1 = "test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"


def make_model(folder, seed=0, classes=CLASSES):
    torch.manual_seed(seed)
    config = ModelConfig(backbone="resnet10t", classes=classes, image_size_px=64)
    return save_model(str(folder), build_network(config), config)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder and id of a small model."""
    folder = tmp_path_factory.mktemp("model")
    return str(folder), make_model(folder)


class Bench:
    """A dataset, a model, an output folder, and the command between them; the engine is forced, so no trial is run."""

    def __init__(self, root, model):
        self.root, (self.model, self.model_id) = root, model
        self.dataset = small_dataset(root / "ds")
        self.output = root / "pred"
        self.folder = self.output / self.model_id

    def score(self, *words, inputs=("ds",)):
        return score.main([*self.words(inputs), *words])

    def words(self, inputs=("ds",)):
        inputs = [word for name in inputs for word in ("--input", str(self.root / name))]
        way = ["--engine=eager", "--dtype=float32", "--batch-size=4"]
        return ["--model", self.model, *inputs, "--output", str(self.output), *way]

    def run(self):
        return json.loads((self.folder / "run.json").read_text())

    def files(self):
        """Name, inode, time and checksum of every file."""
        return {
            str(path.relative_to(self.output)): (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in sorted(self.output.rglob("*"))
            if path.is_file()
        }

    def tar(self, name):
        return self.root / "ds" / name.partition("-")[0] / f"{name}.tar"

    def rows(self, name):
        (shard,) = [shard for shard in self.dataset.shards() if shard.name == name]
        return read_rows(self.dataset.samples_url(shard), shard.num_scans)

    def logits(self):
        rows = open_predictions(str(self.folder)).read_rows(columns=["key", "logits"]).to_pylist()
        return {row["key"]: row["logits"] for row in rows}

    def damage(self, name, place):
        """Zero an image; return its key."""
        row = self.rows(name)[place]
        overwrite(self.tar(name), row.offset_bytes, bytes(row.size_bytes))
        return row.key


@pytest.fixture
def bench(tmp_path, model):
    return Bench(tmp_path, model)


def test_every_scan_of_every_shard_is_scored_and_the_run_says_so(bench, capsys):
    assert bench.score() == 0
    run = bench.run()
    assert sorted(path.name for path in bench.folder.iterdir()) == ["run.json", *(f"{n}.parquet" for n in run["parts"])]
    assert run["parts"] == [TEST, TRAIN_0, TRAIN_1]
    assert run["model_id"] == bench.model_id
    assert run["classes"] == list(CLASSES) and run["num_levels"] == 3
    assert run["dataset_digest"] == bench.dataset.manifest.digest
    assert run["counts"] == {"num_scans": 15, "num_scored": 15, "num_quarantined": 0, "quarantined_by_reason": {}}
    assert run["splits"]["test"]["num_scored"] == 5
    assert run["timings"]["num_scans"] == 15 and run["timings"]["scans_per_second"] > 0
    assert (run["decoder"].split("-")[0], run["batch_size"]) == ("dali", 4)
    assert run["dtype"] in ("float32", "bfloat16") and run["device"] in ("cpu", "cuda")
    assert {"sixray-pipeline", "torch", "nvidia-dali-cuda130", "timm", "apache-beam", "python"} <= set(run["versions"])
    said = capsys.readouterr()
    assert said.out == f"{bench.model_id}: 15 scans = 15 scored + 0 quarantined\n"
    assert "3 shards to score (3 unscored), 0 scored before" in said.err
    assert "score: 15 of 15 scans" in said.err


def test_a_second_run_changes_nothing_and_needs_neither_pytorch_nor_dali(bench):
    assert bench.score() == 0
    before = bench.files()
    assert bench.score() == 0
    assert bench.files() == before
    words = bench.words()
    program = (
        "import sys; from pipelines import cli; code = cli.main(['score', *sys.argv[1:]]);"
        "print(sorted({'torch', 'nvidia.dali', 'timm'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert bench.files() == before


def test_a_part_that_went_missing_is_made_again_and_the_others_stay(bench):
    bench.score()
    before = bench.files()
    (bench.folder / f"{TRAIN_0}.parquet").unlink()
    assert bench.score() == 0
    after = bench.files()
    part, run = f"{bench.model_id}/{TRAIN_0}.parquet", f"{bench.model_id}/run.json"
    assert after[part][2] == before[part][2]
    assert {name: value for name, value in after.items() if name not in (part, run)} == {
        name: value for name, value in before.items() if name not in (part, run)
    }


def test_a_run_that_was_lost_is_written_again_without_scoring(bench):
    bench.score()
    before = bench.files()
    (bench.folder / "run.json").unlink()
    assert bench.score() == 0
    after = bench.files()
    assert {name for name in after if after[name] != before[name]} == {f"{bench.model_id}/run.json"}
    assert bench.run()["timings"] == {"seconds": 0.0, "num_scans": 0, "scans_per_second": None}


def test_damaged_scans_are_named_all_others_are_scored_with_the_same_logits(bench, capsys):
    bench.score()
    sound = bench.logits()
    for path in bench.folder.iterdir():
        path.unlink()
    bad = {bench.damage(TRAIN_0, 1), bench.damage(TRAIN_1, 4), bench.damage(TEST, 0)}
    assert bench.score() == 1
    assert bench.logits() == {key: logits for key, logits in sound.items() if key not in bad}
    quarantine = open_predictions(str(bench.folder)).read_quarantine().to_pylist()
    assert {row["key"] for row in quarantine} == bad
    assert {(row["stage"], row["reason"]) for row in quarantine} == {("score", "checksum_mismatch")}
    assert bench.run()["counts"]["quarantined_by_reason"] == {"checksum_mismatch": 3}
    said = capsys.readouterr()
    assert "findings: 3 of 15 scans are in quarantine, more than 1.00%" in said.err
    assert "15 scans = 12 scored + 3 quarantined (3 checksum_mismatch)" in said.out


def test_the_quarantine_budget_decides_the_exit_code_on_every_run(bench):
    bench.damage(TEST, 2)
    assert bench.score() == 1
    before = bench.files()
    assert bench.score() == 1
    assert bench.score("--max-quarantine-fraction", "0.07") == 0
    assert bench.files() == before


def test_a_scan_that_was_repaired_is_scored_by_the_next_run(bench, capsys):
    sound = bench.tar(TEST).read_bytes()
    bench.damage(TEST, 2)
    assert bench.score() == 1
    bench.tar(TEST).write_bytes(sound)
    assert bench.score() == 0
    assert f"{TEST} is scored again: repaired since it was scored" in capsys.readouterr().err
    assert bench.run()["counts"]["num_scored"] == 15
    assert not (bench.folder / "quarantine" / f"{TEST}.parquet").exists()


def test_a_missing_shard_and_a_truncated_one_are_quarantined_row_by_row(bench):
    bench.tar(TRAIN_0).unlink()
    with bench.tar(TEST).open("r+b") as handle:
        handle.truncate(bench.rows(TEST)[2].offset_bytes)
    assert bench.score() == 1
    counts = bench.run()["counts"]
    assert counts["num_scans"] == 15
    assert counts["quarantined_by_reason"] == {"missing_shard": 5, "truncated_shard": 3}


def test_what_only_the_decoder_finds_bad_is_quarantined_too(tmp_path, model):
    bench = Bench(tmp_path, model)
    images = [(f"V{number}", make_jpeg(number)) for number in range(6)]
    images[3] = ("V3", bogus_huffman(images[3][1]))
    write_dataset(tmp_path / "odd", {"val-00000-of-00001": images})
    assert bench.score(inputs=("odd",)) == 1
    assert bench.run()["counts"]["quarantined_by_reason"] == {"undecodable": 1}


def test_a_shard_whose_bytes_changed_is_scored_again_and_said_so(bench, capsys):
    bench.score()
    before = bench.files()
    train = [bench.dataset.read_samples(shards=[s])["key"].to_pylist() for s in bench.dataset.shards("train")]
    write_dataset(
        bench.root / "ds",
        {
            TRAIN_0: [(key, make_jpeg(2 * n)) for n, key in enumerate(train[0])],
            TRAIN_1: [(key, make_jpeg(2 * n + 1)) for n, key in enumerate(train[1])],
            TEST: [(f"N{number:05d}", make_jpeg(500 + number)) for number in range(5)],
        },
    )
    assert bench.score() == 0
    assert f"{TEST} is scored again: changed since it was scored" in capsys.readouterr().err
    after = bench.files()
    changed = {Path(name).name for name in after if after[name] != before[name]}
    assert changed == {f"{TEST}.parquet", "run.json"}
    assert bench.run()["dataset_digest"] == open_dataset(str(bench.root / "ds")).manifest.digest


def test_splits_can_be_scored_one_by_one(bench):
    assert bench.score("--split", "test") == 0
    assert bench.run()["parts"] == [TEST]
    test_part = bench.files()[f"{bench.model_id}/{TEST}.parquet"]
    assert bench.score("--split", "train") == 0
    assert bench.run()["parts"] == [TEST, TRAIN_0, TRAIN_1]
    assert bench.files()[f"{bench.model_id}/{TEST}.parquet"] == test_part


def test_an_archive_of_datasets_is_scored_into_one_folder_and_may_grow(bench):
    bench.score()
    before = bench.files()
    other = write_dataset(bench.root / "more", {"val-00000-of-00001": [("V1", make_jpeg(5))]})
    assert bench.score(inputs=("ds", "more")) == 0
    run = bench.run()
    assert run["parts"] == [TEST, TRAIN_0, TRAIN_1, "val-00000-of-00001"]
    assert {entry["digest"] for entry in run["datasets"]} == {other.manifest.digest, bench.dataset.manifest.digest}
    after = bench.files()
    assert {Path(name).name for name in after if after[name] != before.get(name)} == {
        "val-00000-of-00001.parquet",
        "run.json",
    }


def test_two_models_do_not_share_a_folder(bench, tmp_path):
    bench.score("--split", "test")
    other_id = make_model(tmp_path / "other", seed=1)
    bench.model = str(tmp_path / "other")
    bench.score("--split", "test")
    assert {path.name for path in bench.output.iterdir()} == {bench.model_id, other_id}


def test_two_runs_at_once_leave_what_one_leaves(bench, tmp_path, model):
    # A thread each: four threads that spin on two cores take a minute for what takes a second.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "pipelines.score", *bench.words()]
    runs = [subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    alone = Bench(tmp_path / "alone", model)
    alone.score()
    assert set(bench.files()) == set(alone.files())
    assert bench.run()["counts"] == alone.run()["counts"]
    for key, logits in alone.logits().items():  # another number of threads adds up in another order
        assert list(bench.logits()[key].values()) == pytest.approx(list(logits.values()), abs=0.05)


def test_what_a_killed_run_left_half_written_is_swept(bench):
    bench.score("--split", "test")
    program = (
        "import os, sys; from shards.storage import atomic_writer\n"
        "with atomic_writer(sys.argv[1]) as out:\n    out.write(b'half a part'); out.flush(); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(bench.folder / f"{TRAIN_0}.parquet")], check=False)
    assert killed.returncode == 9
    (left,) = bench.folder.glob(f".{TRAIN_0}*")
    assert bench.score() == 0
    assert not left.exists()
    assert bench.run()["counts"]["num_scored"] == 15


def test_duckdb_reads_the_parts(bench):
    bench.damage(TEST, 0)
    bench.score()
    query = "select count(*), count(distinct key), min(logits.Gun), max(len(level_logits)), min(peaks.Knife.level) from"
    with duckdb.connect() as connection:
        num, num_keys, logit, num_levels, level = connection.execute(f"{query} '{bench.folder}/*.parquet'").fetchone()
        reasons = connection.execute(f"select reason from '{bench.folder}/quarantine/*.parquet'").fetchall()
    assert (num, num_keys, num_levels) == (14, 14, 3)
    assert logit == pytest.approx(min(row["Gun"] for row in bench.logits().values()))
    assert level in (1, 2, 3)
    assert reasons == [("checksum_mismatch",)]


def test_logits_are_never_half_precision(bench):
    bench.score("--split", "test")
    schema = pq.read_schema(bench.folder / f"{TEST}.parquet")
    assert {str(field.type) for field in schema.field("logits").type} == {"float"}


def test_counters_have_units_and_the_step_travels_to_workers(bench):
    tasks = plan_scoring(str(bench.folder), bench.model_id, [bench.dataset], None).tasks
    bench.damage(TRAIN_0, 0)
    wish = EngineWish(engine="eager", dtype="float32")
    step = pickle.loads(pickle.dumps(ScoreShard(bench.model, bench.model_id, wish, 4)))
    pipeline = make_pipeline(make_beam_options([]))
    score.score_shards(pipeline, tasks, step)
    found = pipeline.run().metrics().query()["counters"]
    counters = {metric.key.metric.name: metric.committed for metric in found if metric.key.metric.namespace == "score"}
    assert (counters["scored-scans"], counters["quarantined-scans"]) == (14, 1)
    read = sum(row.size_bytes for name in (TEST, TRAIN_0, TRAIN_1) for row in bench.rows(name))
    assert counters["read-bytes"] == read - bench.rows(TRAIN_0)[0].size_bytes


def test_workers_of_another_process_score_the_same(bench, tmp_path, model):
    assert bench.score("--", "--direct_running_mode=multi_processing", "--direct_num_workers=1") == 0
    alone = Bench(tmp_path / "alone", model)
    alone.score()
    assert bench.logits() == alone.logits()


def test_a_model_that_is_exchanged_during_the_run_is_refused(bench):
    with pytest.raises(ValueError, match=r"model must be chr-x-0 until all shards are scored, got chr-resnet10t-"):
        score.load_network(bench.model, "chr-x-0", EngineWish())


@pytest.mark.parametrize(
    "words",
    [
        ["--batchsize", "4"],
        ["--spl", "test"],
        ["--max-quarantine-fraction", "2"],
        ["stray"],
        ["--batch-size", "x"],
    ],
)
def test_a_misspelt_flag_is_wrong_usage(bench, words, capsys):
    with pytest.raises(SystemExit) as exit_info:
        bench.score(*words)
    assert exit_info.value.code == 2
    assert "usage: sixray score" in capsys.readouterr().err
    assert not bench.output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "--runer=FlinkRunner"], "Beam options must be known to apache-beam"),
        (["--batch-size", "0"], "batch_size must be >= 1, got 0"),
        (["--split", "val"], "split must be one of ['test', 'train'], got 'val'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(bench, words, message, capsys):
    assert bench.score(*words) == 2
    assert message in capsys.readouterr().err
    assert not bench.output.exists()


def test_inputs_that_are_no_dataset_or_no_model_are_wrong_usage(bench, tmp_path, capsys):
    assert bench.score(inputs=("nothing",)) == 2
    assert "dataset must have a dataset.json, got none" in capsys.readouterr().err
    bench.model = str(tmp_path)
    assert bench.score() == 2
    assert "model must be a folder with model.safetensors and config.json" in capsys.readouterr().err


def test_a_tampered_model_is_refused_before_anything_is_scored(bench, tmp_path, capsys):
    make_model(tmp_path / "other")
    weights = tmp_path / "other/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    bench.model = str(tmp_path / "other")
    assert bench.score() == 2
    assert "the file was damaged or exchanged" in capsys.readouterr().err
    assert not bench.output.exists()


def test_the_front_door_knows_the_command(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["score", "--help"])
    assert exit_info.value.code == 0
    assert "--max-quarantine-fraction" in capsys.readouterr().out


def test_a_batch_of_no_size_is_refused():
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        ScoreConfig(model="m", inputs=("d",), output="o", batch_size=0)
