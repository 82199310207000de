"""Test that `sixray verify` names what is wrong and ends with the exit code for it."""

import json
import shutil
from pathlib import Path

import apache_beam as beam
import pytest

from pipelines.runtime import log
from pipelines.runtime.runners import make_beam_options, make_pipeline, read_counters
from pipelines.transforms import verify as transforms
from pipelines.verify import main
from shards import storage
from shards.format.dataset import open_dataset
from shards.format.parquet import read_parquet
from shards.verify import quick
from tests.corpora import flip_byte, make_corpus, rewrite_rows, stamps_of
from tests.shards.plain_calls import convert_plainly


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset of three shards with two refusals and a byte-equal pair across splits; for copying."""
    corpus = make_corpus(tmp_path_factory.mktemp("c"), num_train=40, num_test=6)
    corpus.add_image("N90000", (corpus.images / "N00001.jpg").read_bytes())
    corpus.add_image("N90001", b"")
    corpus.add_row("N90002", split="test")
    output = tmp_path_factory.mktemp("whole") / "ds"
    convert_plainly(corpus.root, output)
    return output


@pytest.fixture
def root(whole, tmp_path):
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "ds")
    return tmp_path / "ds"


@pytest.mark.slow
def test_a_whole_dataset_ends_with_0_and_is_left_as_it_was(root, capsys):
    before = stamps_of(root)
    assert main([str(root)]) == 0
    assert capsys.readouterr().out == "whole: 47 scans in 4 shards, every byte as its checksum says\n"
    assert stamps_of(root) == before


def test_every_damage_at_once_is_named_one_line_each(root, capsys, tmp_path):
    first, second = sorted(root.glob("train/*.tar"))
    row = read_parquet(f"{root}/samples/{first.stem}.parquet").to_pylist()[0]
    flip_byte(first, row["offset_bytes"] + 300)
    second.unlink()
    (root / "notes.txt").touch()
    (root / "quarantine/part-test-00000-of-00001.parquet").unlink()
    report = tmp_path / "report.json"
    assert main([str(root), "--report", str(report)]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    found = {(item["file"], item["key"], item["what"]) for item in json.loads(report.read_text())}
    assert found == {
        (f"train/{first.name}", row["key"], "checksum_mismatch"),
        (f"train/{second.name}", "", "missing_file"),
        ("notes.txt", "", "surplus_file"),
        ("quarantine/part-test-00000-of-00001.parquet", "", "missing_file"),
        ("dataset.json", "", "ledger_mismatch"),
    }
    assert len(lines) == 5 and lines == sorted(lines)
    assert printed.err.splitlines()[-1] == (
        "findings: 5 in 47 scans in 4 shards; run the same `sixray convert` again, it rewrites what is damaged"
    )


@pytest.mark.slow
def test_counters_have_units_and_lines_name_shard_and_key(root, tmp_path, monkeypatch):
    hit, gone = sorted(root.glob("train/*.tar"))
    row = read_parquet(f"{root}/samples/{hit.stem}.parquet").to_pylist()[0]
    flip_byte(hit, row["offset_bytes"] + 300)
    gone.unlink()
    lines = []
    monkeypatch.setattr(log, "event", lambda text, **facts: lines.append((text, facts)))
    with make_pipeline(make_beam_options([])) as pipeline:
        transforms.add_verification(pipeline, open_dataset(root), str(tmp_path / "report.json"))
    assert read_counters(pipeline, "verify") == {
        "checksum-mismatch-findings": 1,
        "missing-file-findings": 1,
        "read-bytes": sum(path.stat().st_size for path in root.glob("*/*.tar")),
        "verified-scans": 47,
    }
    found = [facts for text, facts in lines if text == "found"]
    reason = {"job": "verify", "file": f"train/{hit.name}", "key": row["key"], "reason": "checksum_mismatch"}
    assert len(found) == 2 and reason in found
    verified = {facts["shard"]: facts["num_findings"] for text, facts in lines if text == "verified"}
    assert len(verified) == 4 and verified == dict.fromkeys(verified, 0) | {hit.stem: 1, gone.stem: 1}


@pytest.mark.slow
def test_duplicates_and_keys_are_compared_across_shards(root, capsys):
    def claim(rows):
        rows[0]["duplicate_of"] = "N00002"

    name = sorted((root / "samples").glob("test*"))[0].stem
    rewrite_rows(root / f"samples/{name}.parquet", claim)
    key = read_parquet(f"{root}/samples/{name}.parquet").to_pylist()[0]["key"]
    assert main([str(root)]) == 1
    out = capsys.readouterr().out
    assert f"{key}: duplicate_mismatch: duplicate_of is 'N00002', the first key with these bytes is None" in out


def edit(root, old: bytes, new: bytes) -> None:
    path = root / "dataset.json"
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b'"digest": "', b'"digest": "0', "damaged_manifest: dataset digest must be that of its shards"),
        (b'"converted": 40', b'"converted": 39', "damaged_manifest: ledger of split 'train' must have listed = conv"),
        (b'"shards": [', b'"shards": [[],', "damaged_manifest: dataset manifest must be a JSON document"),
        (b"{", b"", "damaged_manifest: dataset manifest must be a JSON document of format 1"),
        (b'"listed": 49', b'"listed": 50', "manifest_mismatch: its totals are not those of its shards and ledger"),
    ],
)
def test_a_damaged_manifest_is_a_finding(root, capsys, old, new, what):
    edit(root, old, new)
    assert main([str(root)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"dataset.json: {what}")
    assert "findings: 1 in " in printed.err


def test_an_unfinished_dataset_ends_with_2_and_says_what_to_do(root, capsys):
    (root / "dataset.json").unlink()
    assert main([str(root)]) == 2
    assert capsys.readouterr().err == (
        f"error: dataset must have a dataset.json, got none ({root}); the conversion did not finish: "
        "run the same `sixray convert` command again, it resumes\n"
    )


def test_a_dataset_of_a_later_format_ends_with_2(root, capsys):
    edit(root, b'"format": 2', b'"format": 3')
    assert main([str(root)]) == 2
    assert "error: dataset must have format 1 or 2, got 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repot=x"], "unrecognized arguments: --repot=x"),
        (["more"], "unrecognized arguments: more"),
        (["--", "--paralelism=2"], "Beam options must be known to apache-beam"),
    ],
)
def test_misspelt_flags_end_with_2(root, capsys, words, message):
    try:
        code = main([str(root), *words])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_workers_find_the_same(root, capsys):
    flip_byte(sorted(root.glob("train/*.tar"))[0])
    assert main([str(root)]) == 1
    alone = capsys.readouterr().out
    assert main([str(root), "--", "--direct_num_workers=2", "--direct_running_mode=multi_threading"]) == 1
    assert capsys.readouterr().out == alone != ""


def test_a_quick_look_finds_a_whole_dataset_whole_and_reads_no_tar(root, capsys, monkeypatch):
    opened: list[str] = []

    def watch(real):
        def call(url, *rest):
            opened.append(str(url))
            return real(url, *rest)

        return call

    for name in ("read_bytes", "read_range", "open_reader", "sha256_of"):
        monkeypatch.setattr(storage, name, watch(getattr(storage, name)))
    assert main([str(root), "--quick"]) == 0
    expected = "whole: 47 scans in 4 shards, files and sizes as the manifest says; bytes not read\n"
    assert capsys.readouterr().out == expected
    assert len(opened) > 8 and not any(url.endswith(".tar") for url in opened)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def replace_rows(path):
    rewrite_rows(path, lambda rows: rows.pop())


TRAIN = "train-00000-of-00002"


@pytest.mark.parametrize(
    ("name", "damage", "what"),
    [
        (f"train/{TRAIN}.tar", cut, "size_mismatch"),
        (f"train/{TRAIN}.tar", Path.unlink, "missing_file"),
        (f"train/{TRAIN}.idx", Path.unlink, "missing_file"),
        (f"train/{TRAIN}.idx", lambda path: path.write_bytes(b""), "index_mismatch"),
        (f"train/{TRAIN}.idx", lambda path: path.write_bytes(b"v1.2 7\n"), "index_mismatch"),
        (f"samples/{TRAIN}.parquet", cut, "row_mismatch"),
        (f"samples/{TRAIN}.parquet", lambda path: path.write_bytes(b""), "row_mismatch"),
        (f"samples/{TRAIN}.parquet", replace_rows, "row_mismatch"),
        (f"samples/{TRAIN}.parquet", lambda path: shutil.copy(next(path.parent.glob("test*")), path), "row_mismatch"),
        ("quarantine/part-test-00000-of-00001.parquet", cut, "row_mismatch"),
        ("quarantine/part-test-00000-of-00001.parquet", Path.unlink, "missing_file"),
        ("train/notes.txt", Path.touch, "surplus_file"),
        (".train.tmp", Path.touch, "surplus_file"),
    ],
)
def test_a_quick_look_names_what_sizes_and_footers_show(root, capsys, tmp_path, name, damage, what):
    damage(root / name)
    report = tmp_path / "report.json"
    assert main([str(root), "--quick", "--report", str(report)]) == 1
    assert [(item["file"], item["what"]) for item in json.loads(report.read_text())] == [(name, what)]
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{name}: {what}: ")
    assert "run the same `sixray convert` again" in printed.err


def test_a_quick_look_compares_the_ledger(root, capsys):
    edit(root, b'"converted": 40,\n    "quarantined": 0', b'"converted": 39,\n    "quarantined": 1')
    assert main([str(root), "--quick"]) == 1
    assert "ledger_mismatch: split 'train': shards hold (40, 0)" in capsys.readouterr().out


def test_a_long_footer_is_read_whole(root, monkeypatch):
    monkeypatch.setattr(quick, "_TAIL_BYTES", 100)
    assert main([str(root), "--quick"]) == 0


def test_findings_on_another_machine_s_disk_are_not_taken_for_none(root, capsys, monkeypatch):
    def verify_elsewhere(pipeline, dataset, report_url):
        return pipeline | beam.Create([report_url])

    monkeypatch.setattr(transforms, "add_verification", verify_elsewhere)
    assert main([str(root)]) == 2
    assert "report must be a file that this machine and all workers reach, got " in capsys.readouterr().err
