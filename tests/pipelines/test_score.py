"""Test that `sixray score` writes whole, true predictions, and that a second run finds nothing to do."""

import json
import pickle
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from model.hardware import detect_hardware
from model.scoring.engine_selection import EngineRequest
from pipelines import cli, score
from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.score import ScoreConfig
from pipelines.steps.score_shards import ScoringJob, load_network
from pipelines.transforms.score import ScoreShard, add_scoring
from shards.format.dataset import open_dataset
from shards.predictions.plan import plan_scoring
from shards.predictions.run import open_predictions
from tests.pipelines.scoring import TEST, TRAIN_0, TRAIN_1, Bench, bench, make_model, model
from tests.shards.by_hand import CLASSES, bogus_huffman, make_jpeg, write_dataset

__all__ = ["bench", "model"]  # fixtures


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
    assert (run["engine"], run["dtype"]) == ("eager", "float32") and run["device"] in ("cpu", "cuda")
    assert run["unscored"] == {"num_shards": 0, "num_scans": 0}
    assert {"sixray-pipeline", "torch", "nvidia-dali-cuda130", "timm", "apache-beam", "python"} <= set(run["versions"])
    said = capsys.readouterr()
    assert said.out == f"{bench.model_id}: 15 scans = 15 scored + 0 quarantined\n"
    assert "3 shards to score (3 unscored), 0 scored before" in said.err
    assert "score: 15 of 15 scans" in said.err


@pytest.mark.slow
def test_a_second_run_changes_nothing_and_needs_neither_beam_nor_pytorch_nor_dali(bench):
    assert bench.score() == 0
    before = bench.files()
    assert bench.score() == 0
    assert bench.files() == before
    words = bench.words()
    program = (
        "import sys; from pipelines import cli; code = cli.main(['score', *sys.argv[1:]]);"
        "print(sorted({'apache_beam', 'torch', 'nvidia.dali', 'timm'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert bench.files() == before


@pytest.mark.slow
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
    timings = bench.run()["timings"]
    assert timings.pop("finished_at").endswith("+00:00")
    assert timings == {"seconds": 0.0, "num_scans": 0, "scans_per_second": None}


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_splits_can_be_scored_one_by_one(bench):
    assert bench.score("--split", "test") == 0
    assert bench.run()["parts"] == [TEST]
    test_part = bench.files()[f"{bench.model_id}/{TEST}.parquet"]
    assert bench.score("--split", "train") == 0
    assert bench.run()["parts"] == [TEST, TRAIN_0, TRAIN_1]
    assert bench.files()[f"{bench.model_id}/{TEST}.parquet"] == test_part


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_models_do_not_share_a_folder(bench, tmp_path):
    bench.score("--split", "test")
    other_id = make_model(tmp_path / "other", seed=1)
    bench.model = str(tmp_path / "other")
    bench.score("--split", "test")
    assert {path.name for path in bench.output.iterdir()} == {bench.model_id, other_id}


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


@pytest.mark.slow
def test_counters_have_units_and_the_step_travels_to_workers(bench):
    tasks = plan_scoring(str(bench.folder), bench.model_id, [bench.dataset], None).tasks
    bench.damage(TRAIN_0, 0)
    request = EngineRequest(engine="eager", dtype="float32")
    job = ScoringJob(model_url=bench.model, model_id=bench.model_id, request=request, batch_size=4)
    step = pickle.loads(pickle.dumps(ScoreShard(job)))
    pipeline = make_pipeline(make_beam_options([]))
    add_scoring(pipeline, tasks, step)
    found = pipeline.run().metrics().query()["counters"]
    counters = {metric.key.metric.name: metric.committed for metric in found if metric.key.metric.namespace == "score"}
    assert (counters["scored-scans"], counters["quarantined-scans"]) == (14, 1)
    read = sum(row.size_bytes for name in (TEST, TRAIN_0, TRAIN_1) for row in bench.rows(name))
    assert counters["read-bytes"] == read - bench.rows(TRAIN_0)[0].size_bytes


def test_a_model_that_is_exchanged_during_the_run_is_refused(bench):
    with pytest.raises(ValueError, match=r"model must be chr-x-0 until all shards are scored, got chr-resnet10t-"):
        load_network(ScoringJob(model_url=bench.model, model_id="chr-x-0", request=EngineRequest(), batch_size=None))


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
        (["--limit-shards", "0"], "limit_shards must be >= 1, got 0"),
        (["--split", "val"], "split must be one of ['test', 'train'], got 'val'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(bench, words, message, capsys):
    assert bench.score(*words) == 2
    assert message in capsys.readouterr().err
    assert not bench.output.exists()


def test_the_front_door_knows_the_command(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["score", "--help"])
    assert exit_info.value.code == 0
    assert "--max-quarantine-fraction" in capsys.readouterr().out


def test_a_batch_of_no_size_is_refused():
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        ScoreConfig(model="m", inputs=("d",), output="o", batch_size=0)


class TestEngines:
    def test_the_engine_that_is_forced_stands_in_the_run(self, bench):
        assert bench.score("--split=test", "--dtype=bfloat16") == 0
        assert (bench.run()["engine"], bench.run()["dtype"], bench.run()["batch_size"]) == ("eager", "bfloat16", 4)

    def test_a_part_made_again_without_force_is_made_as_the_others_were(self, bench, monkeypatch):
        bench.score()
        before = bench.files()
        (bench.folder / f"{TRAIN_0}.parquet").unlink()
        monkeypatch.setattr(
            "model.scoring.engines.measure_engines", lambda *_: pytest.fail("a trial although there are parts")
        )
        words = [word for word in bench.words() if not word.startswith(("--engine", "--dtype"))]
        assert score.main(words) == 0
        part = f"{bench.model_id}/{TRAIN_0}.parquet"
        assert bench.files()[part][2] == before[part][2]

    def test_few_scans_are_scored_by_pytorch_in_the_dtype_of_the_hardware(self, bench):
        words = [word for word in bench.words() if not word.startswith(("--engine", "--dtype"))]
        assert score.main([*words, "--split=test"]) == 0
        assert (bench.run()["engine"], bench.run()["dtype"]) == ("eager", detect_hardware().dtype)

    def test_an_engine_that_cannot_do_it_is_wrong_usage(self, bench, capsys):
        assert bench.score("--engine=onnxruntime", "--dtype=bfloat16") == 2
        assert "dtype must be float32 for the engine onnxruntime" in capsys.readouterr().err


def test_logs_can_be_json_a_line(bench, capsys):
    bench.damage(TEST, 0)
    assert bench.score("--log-format=json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert all(datetime.fromisoformat(line["time"]) and line["message"] for line in lines)
    (plan,) = [line for line in lines if line.get("event") == "plan"]
    assert (plan["num_shards"], plan["num_scans"]) == (3, 15)
    (done,) = [line for line in lines if "outcome" in line]
    assert (done["job"], done["num_scans"], done["outcome"]) == ("score", 15, "done")
    assert lines[-1]["level"] == "warning" and "in quarantine" in lines[-1]["message"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--since", "yesterday"],
            "--since: must be an ISO date or time as 2026-03-01T18:30, got 'yesterday'",
        ),
        (["--engine", "openvino"], "argument --engine: invalid choice"),
        (["--limit-shards", "few"], "argument --limit-shards: invalid int value"),
    ],
)
def test_a_flag_with_a_value_that_is_none_is_wrong_usage(bench, words, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        bench.score(*words)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
