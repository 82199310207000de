"""No job loses or makes up anything when the power goes, whatever a disk then forgets."""

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from shards import storage
from shards.format.parquet import read_parquet
from shards.predictions.parts import quarantine_part_url, read_part, read_part_info, write_part
from shards.storage import disk
from tests.shards.predictions.test_parts import info_of, tables_of
from tests.simulation.lives import JOBS, BrokenPromiseError, live, live_for, make_job, run_undisturbed
from tests.simulation.power import PowerCut, PowerCuts


@pytest.fixture(scope="module")
def conversion(tmp_path_factory):
    job = make_job("plain", tmp_path_factory.mktemp("simulation"))
    return job, run_undisturbed(job)


@pytest.mark.parametrize("seed", [*range(25), 2_001_540])  # the last brought back a temporary file that was swept
def test_a_conversion_survives_power_cuts(conversion, seed):
    job, undisturbed = conversion
    live(job, seed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in JOBS if name != "plain"])
def test_a_command_survives_power_cuts(name):
    assert live_for(name, seed=1, seconds=0).num_broken == 0


def test_the_same_seed_loses_the_same(conversion):
    job, undisturbed = conversion
    first, second = (live(job, 7, undisturbed) for _ in range(2))
    assert (first[0], first[1].num_lost) == (second[0], second[1].num_lost)


@pytest.mark.parametrize("name", ["sync_file", "sync_folder"])
def test_a_writer_that_does_not_sync_is_found_out(conversion, monkeypatch, name):
    job, undisturbed = conversion
    monkeypatch.setattr(PowerCuts, f"_{name}", lambda self, of: getattr(of, "flush", lambda: None)())
    with pytest.raises(BrokenPromiseError, match="seed"):
        for seed in range(200):
            live(job, seed, undisturbed)


def states_after(root: Path, change, num=60):
    """Every state of a folder that a power cut may leave somewhere within a change of it."""
    states = set()
    for seed in range(num):
        folder = root / str(seed)
        folder.mkdir(parents=True)
        (folder / "a").write_bytes(b"old")
        cuts = PowerCuts(folder, seed)
        try:
            with cuts.power(seed % 8):
                change(folder)
        except PowerCut:
            pass
        cuts.lose()
        states.add(tuple(sorted((path.name[:1], path.read_bytes()) for path in folder.iterdir() if path.name == "a")))
    return states


def test_a_file_that_is_replaced_is_the_old_one_or_the_new_one(tmp_path):
    found = states_after(tmp_path, lambda folder: storage.write_bytes(folder / "a", b"new"))
    assert found == {(("a", b"old"),), (("a", b"new"),)}


def test_without_syncs_a_file_may_be_torn_or_empty(tmp_path):
    def careless(folder):
        with disk.create_file(folder / "t") as out:
            out.write(b"new")
        disk.rename_file(folder / "t", folder / "a")

    found = states_after(tmp_path, careless)
    assert (("a", b"old"),) in found and (("a", b""),) in found and len(found) > 3


def test_what_was_written_or_removed_stays_so(tmp_path):
    for seed in range(20):
        root = tmp_path / str(seed)
        root.mkdir()
        cuts = PowerCuts(root, seed)
        with cuts.power():
            storage.write_bytes(root / "new/folder/file", b"text")
            storage.write_bytes(root / "gone", b"text")
            storage.remove(root / "gone")
        cuts.lose()
        assert (root / "new/folder/file").read_bytes() == b"text"
        assert not (root / "gone").exists()


def test_no_part_stands_beside_the_quarantine_of_another(tmp_path):
    """Of two scans one was refused; then it was repaired, and the other one is refused."""
    info = info_of(num_scored=1, reasons={"undecodable": 1})
    before = tables_of(info)
    after = [pa.Table.from_pylist([row | {"key": key} for row in table.to_pylist()], table.schema)
             for table, key in zip(before, ("Q0", "N0"), strict=True)]  # fmt: skip
    for seed in range(24):
        root = tmp_path / str(seed)
        write_part(str(root), before[0], before[1], info)
        cuts = PowerCuts(root, seed)
        with suppress(PowerCut), cuts.power(seed % 12):
            write_part(str(root), after[0], after[1], info)
        cuts.lose()
        if read_part_info(str(root), info.shard) is not None:
            refused = read_parquet(quarantine_part_url(str(root), info.shard))
            keys = [*read_part(str(root), info.shard)["key"].to_pylist(), *refused["key"].to_pylist()]
            assert sorted(keys) == ["N0", "Q0"], f"seed {seed}"
