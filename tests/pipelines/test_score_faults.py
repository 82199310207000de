"""Test that `sixray score` survives kills, full and read-only disks and untrustworthy files."""

import json
import multiprocessing
import os
import pickle
import subprocess
import time
from pathlib import Path

import pytest

from pipelines import score
from shards import storage
from tests.pipelines.scoring import Bench, make_model, model
from tests.shards.by_hand import make_jpeg, write_dataset

__all__ = ["model"]  # fixtures

NAMES = tuple(f"test-0000{number}-of-00003" for number in range(3))
SCANS_A_SHARD = 100
DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three shards that take a second or two each."""
    root = tmp_path_factory.mktemp("archive")
    images = [make_jpeg(number, 300, 300) for number in range(8)]
    shards = {
        name: [(f"N{index}{number:05d}", images[number % 8]) for number in range(SCANS_A_SHARD)]
        for index, name in enumerate(NAMES)
    }
    write_dataset(root / "big", shards)
    return root


@pytest.fixture(scope="module")
def undisturbed(archive, model):
    """The files of a run that nothing happened to, and their checksums."""
    bench = Bench(archive, model)
    bench.output = archive / "undisturbed"
    assert bench.score(inputs=("big",)) == 0
    return checksums(bench)


@pytest.fixture
def bench(archive, model, tmp_path):
    bench = Bench(archive, model)
    bench.output = tmp_path / "pred"
    bench.folder = bench.output / bench.model_id
    return bench


def checksums(bench):
    return {name: checksum for name, (*_, checksum) in bench.files().items() if name.endswith(".parquet")}


def start(bench):
    """Start a run; not in a fork of this process, which may have mapped more for other tests than there is memory."""
    run = multiprocessing.get_context("forkserver").Process(target=score.main, args=[bench.words(("big",))])
    run.start()
    return run


def wait_for_a_part(bench, is_running):
    """Wait until a shard is done: the next one is being scored from then on."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(bench.folder.glob("*.parquet")):
        assert is_running() and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_killed_in_mid_shard_goes_on_at_the_shard(bench, undisturbed, capsys):
    run = start(bench)
    wait_for_a_part(bench, run.is_alive)
    run.kill()
    run.join()
    assert run.exitcode == -9
    capsys.readouterr()
    before = bench.files()
    assert 1 <= len(before) < 3 and not any(name.endswith("run.json") for name in before)
    killed_writer = Path(
        bench.folder / f".{NAMES[2]}.parquet.{os.uname().nodename.replace('.', '-')}.{run.pid}-1.ab.tmp"
    )
    killed_writer.write_bytes(b"half a part")
    assert bench.score(inputs=("big",)) == 0
    assert f"{len(before)} scored before" in capsys.readouterr().err
    assert not killed_writer.exists()
    assert checksums(bench) == undisturbed
    assert {name: bench.files()[name] for name in before} == before


@pytest.mark.slow
def test_two_runs_at_once_leave_what_one_leaves(bench, undisturbed):
    # Both score and write the same parts, on the same two cores: the second of two equal ones stays.
    other = start(bench)
    wait_for_a_part(bench, other.is_alive)
    assert bench.score(inputs=("big",)) == 0
    other.join(DEADLINE_SECONDS)
    assert other.exitcode == 0
    assert checksums(bench) == undisturbed
    assert {path.name for path in bench.folder.iterdir()} == {"run.json", *(f"{name}.parquet" for name in NAMES)}
    assert json.loads((bench.folder / "run.json").read_text())["counts"]["num_scored"] == 3 * SCANS_A_SHARD


def is_mountable(folder):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def small_disk(bench, tmp_path):
    """A disk of 64 KiB of its own under the output."""
    bench.output.mkdir()
    if os.getuid() != 0 or not is_mountable(bench.output):
        pytest.skip("a small disk can only be mounted by root, where mounting is allowed")
    yield bench.output
    subprocess.run(["umount", bench.output], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_room(bench, small_disk, undisturbed, capsys):
    (small_disk / "other").write_bytes(bytes(40_000))
    assert bench.score(inputs=("big",)) == 3
    err = capsys.readouterr().err
    assert "No space left on device" in err and "run the same command again, it resumes" in err
    assert not list(bench.folder.glob(".*")) and not (bench.folder / "run.json").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert bench.score(inputs=("big",)) == 0
    assert checksums(bench) == undisturbed


def test_a_read_only_output_stops_the_run(bench, small_disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert bench.score(inputs=("big",)) == 3
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() == 0, reason="no folder is read-only to root; the read-only disk is tested instead")
def test_a_folder_that_may_not_be_written_stops_the_run(bench, capsys):
    bench.output.mkdir(mode=0o555)
    assert bench.score(inputs=("big",)) == 3
    assert "Permission denied" in capsys.readouterr().err


@pytest.fixture
def copied(bench, tmp_path):
    """The bench with a model folder of its own, to be damaged."""
    make_model(tmp_path / "copy")
    bench.model = str(tmp_path / "copy")
    return bench


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_model_with_a_missing_file_is_refused(copied, name, capsys):
    (Path(copied.model) / name).unlink()
    assert copied.score(inputs=("big",)) == 2
    assert f"model must be a folder with model.safetensors and config.json, got no {name}" in capsys.readouterr().err
    assert not copied.output.exists()


def test_a_model_that_was_tampered_with_is_refused(copied, capsys):
    weights = Path(copied.model) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert copied.score(inputs=("big",)) == 2
    assert "the file was damaged or exchanged: copy the model again" in capsys.readouterr().err
    assert not copied.output.exists()


class Bomb:
    """What runs when a pickle of it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_in_place_of_a_model_is_refused_and_never_loaded(copied, tmp_path, protocol, capsys):
    weights = Path(copied.model) / "model.safetensors"
    weights.write_bytes(pickle.dumps(Bomb(tmp_path / "boom"), protocol))
    assert copied.score(inputs=("big",)) == 2
    assert "model.safetensors must" in capsys.readouterr().err
    assert not (tmp_path / "boom").exists() and not copied.output.exists()
    pickle.loads(weights.read_bytes())
    assert (tmp_path / "boom").exists(), "the pickle would have run"


def test_a_pickle_whose_checksum_the_config_records_is_refused_too(copied, tmp_path, capsys):
    folder = Path(copied.model)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    config = json.loads((folder / "config.json").read_text())
    config["weights_sha256"] = storage.sha256_of(str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    assert copied.score(inputs=("big",)) == 2
    assert "got a pickle" in capsys.readouterr().err
    assert not (tmp_path / "boom").exists()


def test_a_dataset_of_a_later_format_is_refused_with_what_to_do(bench, tmp_path, capsys):
    write_dataset(tmp_path / "later", {NAMES[0]: [("N1", make_jpeg(1))]})
    manifest = tmp_path / "later/dataset.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 3}))
    bench.root = tmp_path
    assert bench.score(inputs=("later",)) == 2
    err = capsys.readouterr().err
    assert "dataset must have format 1 or 2, got 3" in err
    assert "read it with the release of sixray-pipeline that wrote it, or convert the corpus again" in err
    assert not bench.output.exists()


def test_what_is_no_dataset_is_wrong_usage(bench, capsys):
    assert bench.score(inputs=("nothing",)) == 2
    assert "dataset must have a dataset.json, got none" in capsys.readouterr().err
