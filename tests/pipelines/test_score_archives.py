"""Test which shards of datasets and archives `sixray score` takes: by number, time and split, and what it plans."""

import json
import os
from datetime import UTC, datetime, timedelta

from pipelines import cli
from shards.format.dataset import open_dataset
from tests.pipelines.scoring import TEST, TRAIN_0, TRAIN_1, bench, make_model, model
from tests.shards.by_hand import make_jpeg, write_dataset

__all__ = ["bench", "model"]  # fixtures


class TestPartialRuns:
    def test_a_limit_leaves_shards_for_later_runs_and_the_last_of_them_has_all(self, bench, capsys):
        assert bench.score("--limit-shards", "2") == 0
        assert "2 shards to score (2 unscored), 0 scored before, 1 left for a later run" in capsys.readouterr().err
        assert len(bench.run()["parts"]) == 2
        assert bench.run()["unscored"] == {"num_shards": 1, "num_scans": 5}
        assert bench.score("--limit-shards", "2") == 0
        assert bench.run()["unscored"] == {"num_shards": 0, "num_scans": 0}
        assert bench.run()["counts"]["num_scored"] == 15

    def test_since_leaves_shards_alone_that_were_written_before(self, bench, capsys):
        later = datetime.now(UTC) + timedelta(days=1)
        os.utime(bench.tar(TEST), (later.timestamp(), later.timestamp()))
        assert bench.score("--since", later.isoformat()) == 0
        assert bench.run()["parts"] == [TEST]
        assert "2 left for a later run" in capsys.readouterr().err
        bench.tar(TRAIN_0).unlink()
        assert bench.score("--since", later.isoformat()) == 1  # a tar that is gone is named, whenever it went
        assert bench.run()["counts"]["quarantined_by_reason"] == {"missing_shard": 5}

    def test_since_takes_a_shard_that_a_copy_brought_with_its_old_time(self, bench):
        began = datetime.now(UTC) - timedelta(hours=1)
        for name in (TRAIN_0, TRAIN_1, TEST):
            os.utime(bench.tar(name), (0, 0))  # as `rsync -a` does
        assert bench.score("--since", began.isoformat()) == 0
        assert bench.run()["parts"] == [TEST, TRAIN_0, TRAIN_1]

    def test_a_dry_run_says_what_would_be_done_and_how_long_and_writes_nothing(self, bench, capsys):
        assert bench.score("--dry-run") == 0
        assert not bench.output.exists()
        lines = capsys.readouterr().out.splitlines()
        assert lines[:3] == [f"{bench.folder}  {name}  5 scans  unscored" for name in (TEST, TRAIN_0, TRAIN_1)]
        assert lines[3] == "3 shards to score (3 unscored), 0 scored before"
        assert lines[4] == "15 scans; no earlier run of this model or its kind shows how long they take"
        bench.score("--split", "test")
        timings = {"seconds": 50.0, "num_scans": 5, "scans_per_second": 0.1}
        run = bench.run() | {
            "timings": {"seconds": 9.0, "num_scans": 1, "scans_per_second": 0.01},
            "longest_run": timings,
        }
        (bench.folder / "run.json").write_text(json.dumps(run))
        before = bench.files()
        capsys.readouterr()
        assert bench.score("--dry-run") == 0
        said = capsys.readouterr()
        told = f"10 scans, about 0:01:40 at 0.1 scans/s, the rate of {bench.folder}/run.json"
        assert said.out.splitlines()[-1] == told and said.err == ""
        assert bench.files() == before
        assert bench.score("--dry-run", "--limit-shards", "1") == 0
        assert "1 shards to score (1 unscored), 1 scored before, 1 left for a later run" in capsys.readouterr().out

    def test_a_new_model_of_the_same_kind_is_expected_to_be_as_fast(self, bench, tmp_path, capsys):
        bench.score("--split", "test")
        old = bench.folder
        make_model(tmp_path / "new", seed=1)
        bench.model = str(tmp_path / "new")
        bench.score("--dry-run")
        assert f"the rate of {old}/run.json" in capsys.readouterr().out


class TestArchives:
    def make_archive(self, bench, *names):
        for seed, name in enumerate(names):
            write_dataset(bench.root / "archive" / name, {"unlisted-00000-of-00001": [("N1", make_jpeg(seed))]})

    def parts(self, bench):
        return {name for name in bench.files() if name.endswith(".parquet")}

    def test_datasets_whose_shards_have_the_same_names_each_have_a_folder(self, bench, capsys):
        self.make_archive(bench, "mon", "tue")
        (bench.root / "archive/wed").mkdir()
        assert bench.score(inputs=("archive",)) == 0
        said = capsys.readouterr()
        assert said.out == f"{bench.model_id}: 2 scans = 2 scored + 0 quarantined\n"
        assert "archive/wed has no dataset.json and is left for a later run" in said.err
        part = f"{bench.model_id}/unlisted-00000-of-00001.parquet"
        assert self.parts(bench) == {f"mon/{part}", f"tue/{part}"}
        before = bench.files()
        self.make_archive(bench, "mon", "tue", "wed")
        assert bench.score(inputs=("archive",)) == 0
        assert {name: value for name, value in bench.files().items() if "wed/" not in name} == before
        for name in ("mon", "tue", "wed"):
            run = json.loads((bench.output / name / bench.model_id / "run.json").read_text())
            assert run["dataset_digest"] == open_dataset(str(bench.root / "archive" / name)).manifest.digest
            assert cli.main(["verify", str(bench.output / name / bench.model_id)]) == 0

    def test_a_dataset_that_cannot_be_read_does_not_keep_the_others_from_being_scored(self, bench, capsys):
        self.make_archive(bench, "mon", "tue")
        (bench.root / "archive/mon/dataset.json").write_text("{")
        assert bench.score(inputs=("archive",)) == 1
        assert "findings: dataset manifest must be a JSON document" in capsys.readouterr().err
        assert {name.partition("/")[0] for name in self.parts(bench)} == {"tue"}

    def test_named_datasets_with_shards_of_the_same_names_are_refused_with_the_remedy(self, bench, capsys):
        self.make_archive(bench, "mon", "tue")
        assert bench.score(inputs=("archive/mon", "archive/tue")) == 2
        assert "name the folder that holds both as --input" in capsys.readouterr().err
        assert not bench.output.exists()

    def test_a_split_must_be_in_one_dataset_of_the_archive(self, bench, capsys):
        self.make_archive(bench, "mon")
        small = write_dataset(bench.root / "archive/tue", {"val-00000-of-00001": [("V1", make_jpeg(1))]})
        assert bench.score("--split", "val", inputs=("archive",)) == 0
        assert self.parts(bench) == {f"tue/{bench.model_id}/{small.shards()[0].name}.parquet"}
        assert bench.score("--split", "dev", inputs=("archive",)) == 2
        assert "split must be one of" in capsys.readouterr().err
