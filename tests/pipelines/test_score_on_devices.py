"""Test that processes share the shards of a run, and that none is lost where one of them ends."""

import multiprocessing
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.runtime.progress import Progress
from pipelines.steps import score_on_devices as devices
from shards.predictions.run import open_predictions
from tests.pipelines import device_processes
from tests.pipelines.scoring import bench, model

__all__ = ["bench", "model"]  # fixtures


score_on_devices: Any = devices.score_on_devices
choose_devices = devices.choose_devices
"""The processes of some tests take any shards."""


@pytest.mark.slow
def test_two_processes_write_the_parts_that_one_writes(bench, capsys):
    assert bench.score() == 0
    alone = bench.logits()
    names = {path.name for path in bench.folder.iterdir()}
    for path in bench.folder.iterdir():
        path.unlink()
    bad = bench.damage("test-00000-of-00001", 2)
    assert bench.score("--devices=2", "--max-quarantine-fraction=0.1") == 0
    assert {path.name for path in bench.folder.iterdir()} == names | {"quarantine"}
    together = bench.logits()
    assert alone.keys() - together.keys() == {bad}
    for key, logits in together.items():
        assert list(logits.values()) == pytest.approx(list(alone[key].values()), abs=1e-4)
    assert open_predictions(str(bench.folder)).read_quarantine()["key"].to_pylist() == [bad]
    counters = bench.run()["timings"]["counters"]
    assert (counters["scored-scans"], counters["quarantined-scans"]) == (14, 1)
    assert "score: 15 of 15 scans" in capsys.readouterr().err
    before = bench.files()
    assert bench.score("--devices=2", "--max-quarantine-fraction=0.1") == 0
    assert bench.files() == before


def test_each_process_takes_the_next_shard_when_it_can(monkeypatch):
    monkeypatch.setattr(devices, "_run", device_processes.take_and_report)
    with Progress("score", 84, "scans") as progress:
        taken = [outcome.part for outcome in score_on_devices("job", 2, range(12))]
    assert sorted(number for _, number in taken) == list(range(12))
    num_of = {device: [at for at, _ in taken].count(device) for device in (0, 1)}
    assert num_of[0] < num_of[1]  # none, where the first process starts late
    assert (progress.num_done, progress.num_bytes) == (84, 1200)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (device_processes.die_at_once, OSError, r"must live until its shards are done, got device \d ended with exit"),
        (device_processes.fail_at_once, ValueError, r"model must be another, got a job on device \d"),
    ],
)
def test_a_process_that_ends_or_fails_ends_the_run(monkeypatch, run, error, message):
    monkeypatch.setattr(devices, "_run", run)
    with pytest.raises(error, match=message):
        list(score_on_devices("a job", 2, range(12)))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("asked", "num_gpus", "options", "expected"),
    [
        (None, 0, [], 1),
        (None, 8, [], 8),
        (2, 8, [], 2),
        (2, 0, [], 2),
        (None, 8, ["--runner=FlinkRunner"], 1),
        (None, 8, ["--direct_running_mode=multi_processing", "--direct_num_workers=2"], 1),
    ],
)
def test_all_gpus_score_unless_less_is_asked_for_or_beam_starts_the_workers(
    monkeypatch, asked, num_gpus, options, expected
):
    monkeypatch.setattr(devices, "count_gpus", lambda: num_gpus)
    assert choose_devices(asked, PipelineOptions(options)) == expected


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        (3, [], "devices must be at most the 2 GPUs of this machine, got 3"),
        (2, ["--runner=FlinkRunner"], "devices must be left out where Beam starts the workers, got 2; each worker"),
    ],
)
def test_devices_that_are_not_there_or_not_this_machines_are_refused(monkeypatch, asked, options, message):
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    with pytest.raises(ValueError, match=message):
        choose_devices(asked, PipelineOptions(options))
