"""Test that the job gives the bytes of the plain calls, however it is run, stopped and run again."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from pipelines import verify
from pipelines.convert import convert_corpus, main
from pipelines.runtime import process_pool
from pipelines.steps.corpus_job import ConvertConfig
from shards import storage
from shards.corpus.policy import Policy
from shards.images.transcode import to_jpeg
from tests.corpora import (
    CorpusWriter,
    bmp_bytes,
    files_of,
    flip_byte,
    images_of,
    jpeg_bytes,
    make_corpus,
    members_of,
    pack_release,
    payload_of,
    png_bytes,
    reasons_of,
    rows_of,
    stamps_of,
    voc_xml,
)
from tests.shards.curation.test_near_duplicates import encoded, scene
from tests.shards.plain_calls import convert_plainly

SHARD_BYTES = 15_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sound scans in several shards, three refusals and a byte-equal pair; for reading alone."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=64, num_test=20)
    corpus.add_row("N90000")
    corpus.add_image("N90001", b"")
    corpus.add_image("N90002", jpeg_bytes(1)[:-50])
    corpus.add_image("N90003", (corpus.images / "N00001.jpg").read_bytes())
    return corpus


@pytest.fixture(scope="module")
def calm(corpus, tmp_path_factory):
    """What an undisturbed run makes of it; for reading alone."""
    output = tmp_path_factory.mktemp("calm") / "ds"
    convert_corpus(config_for(corpus, output))
    return output


def config_for(corpus: CorpusWriter, output: Path | str, **changes) -> ConvertConfig:
    return replace(ConvertConfig(input=str(corpus.root), output=str(output), shard_bytes=SHARD_BYTES), **changes)


def run(*words: object) -> int:
    """Run the command as a shell would; argparse leaves by SystemExit."""
    try:
        return main([str(word) for word in words])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def test_the_job_writes_what_the_plain_calls_write(corpus, calm, tmp_path):
    manifest = convert_plainly(corpus.root, tmp_path / "ds", shard_bytes=SHARD_BYTES, seed=4)
    assert payload_of(tmp_path / "ds") == payload_of(calm)
    assert manifest.digest in (calm / "dataset.json").read_text()
    assert len(list(calm.glob("train/*.tar"))) > 2
    assert len(images_of(calm)) == 85
    assert reasons_of(calm) == {"N90000": "missing_image", "N90001": "empty_file", "N90002": "truncated_jpeg"}


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers(corpus, calm, tmp_path):
    convert_corpus(
        config_for(corpus, tmp_path / "ds"), ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    )
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.slow
def test_what_is_damaged_missing_or_left_by_a_dead_writer_is_mended_and_the_rest_not_touched(corpus, calm, tmp_path):
    output = tmp_path / "ds"
    convert_corpus(config_for(corpus, output))
    tars = sorted(output.glob("train/*.tar"))
    flip_byte(tars[0])
    tars[1].with_suffix(".idx").unlink()
    (output / f"train/.{tars[0].name}.{os.uname().nodename.replace('.', '-')}.999999999-1.00.tmp").touch()
    kept = stamps_of(output)
    convert_corpus(config_for(corpus, output))
    assert files_of(output) == files_of(calm)
    touched = {name for name, stamp in stamps_of(output).items() if kept.get(name) != stamp}
    assert {Path(name).stem.removeprefix("part-") for name in touched} == {tars[0].stem, tars[1].stem, "dataset"}
    kept = stamps_of(output)
    convert_corpus(config_for(corpus, output))
    assert stamps_of(output) == kept


@pytest.fixture
def memory():
    """An empty store in memory, which fsspec shares by class."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


@pytest.mark.slow
def test_a_store_is_read_and_written_like_a_disk(corpus, calm, memory):
    for name, data in files_of(corpus.root).items():
        memory.pipe(f"/bucket/corpus/{name}", data)

    def stored():
        return {name: memory.cat_file(name) for name in memory.find("/bucket/ds")}

    config = config_for(corpus, "memory://bucket/ds/", input="memory://bucket/corpus")
    convert_corpus(config)
    written = stored()
    assert {name.removeprefix("/bucket/ds/") for name in written} == set(files_of(calm))
    tars = {name: data for name, data in files_of(calm).items() if name.endswith((".tar", ".idx"))}
    assert {name: written[f"/bucket/ds/{name}"] for name in tars} == tars
    memory.pipe("/bucket/ds/" + min(tars), b"damaged")
    convert_corpus(config)
    assert stored() == written


def test_names_that_would_escape_or_confuse_readers_become_safe_members(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    names = ["..", "a.b.c", "a b", "..%2F..%2Fx", "\nnew", "-rf", "ü" * 5, "\udce9", "'quote\"", "P1.jpg", "~", "\\up"]
    for name in names:
        corpus.add_image(name)
    (corpus.images / "deep").mkdir()
    (corpus.images / "deep/again").symlink_to(corpus.images, target_is_directory=True)
    convert_corpus(config_for(corpus, tmp_path / "ds", layout="images", input=str(corpus.images)))
    images = images_of(tmp_path / "ds")
    assert len(images) == len(names)
    assert reasons_of(tmp_path / "ds") == {"deep%2Fagain": "not_a_file"}
    assert sorted(images.values()) == sorted(path.read_bytes() for path in corpus.images.iterdir() if path.is_file())
    for member in members_of(tmp_path / "ds"):
        assert member.isprintable() and member.isascii() and not set(member) & set("/\\ '\"")
        assert member.count(".") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "ds"]
    assert all("\n" not in row["source_uri"] for row in rows_of(tmp_path / "ds"))


@pytest.mark.slow
def test_a_run_within_its_budget_ends_with_0_and_prints_where_every_record_went(corpus, tmp_path, capsys):
    words = ("--input", corpus.root, "--output", tmp_path / "ds", f"--shard-bytes={SHARD_BYTES}")
    assert run(*words, "--max-quarantine-fraction", "0.5") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "test: 20 listed = 20 converted + 0 quarantined",
        "train: 65 listed = 64 converted + 1 quarantined (1 missing_image)",
        "unlisted: 3 listed = 1 converted + 2 quarantined (1 empty_file, 1 truncated_jpeg)",
    ]
    assert out[3].startswith("digest ")
    assert out[4:] == [
        "contradictions: 1 missing_image (N90000)",
        "contradictions: 3 unlisted_image (N90001, N90002, N90003)",
    ]
    # Exactly at the budget is within it; one record above, exit 1 says so, and the dataset is the same.
    before = files_of(tmp_path / "ds")
    assert run(*words, "--max-quarantine-fraction", 3 / 88) == 0
    assert run(*words) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "findings: 3 of 88 scans are in quarantine, more than 1.00%"
    assert files_of(tmp_path / "ds") == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard-byte=5"], "unrecognized arguments: --shard-byte=5"),
        (["--subset=7"], "argument --subset: invalid choice: '7'"),
        (["--layout=kitti"], "argument --layout: invalid choice: 'kitti'"),
        (["--shard-bytes=many"], "argument --shard-bytes: invalid int value: 'many'"),
        (["--shard-bytes=0"], "error: shard_bytes must be >= 1, got 0"),
        (["--max-quarantine-fraction=2"], "argument --max-quarantine-fraction: must be in [0, 1], got 2"),
        (["--", "--runer=FlinkRunner"], "error: Beam options must be known to apache-beam"),
        (["--", "--subset=10"], "got --subset=10; the project's own flags stand before the `--`"),
        (["--layout=images", "--subset=1000"], "error: subset must be 'all' for a corpus without lists, got '1000'"),
    ],
)
def test_wrong_usage_ends_with_2_and_writes_nothing(corpus, tmp_path, capsys, words, message):
    assert run("--input", corpus.root, "--output", tmp_path / "ds", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ds").exists()


def test_a_flag_that_is_missing_is_wrong_usage(capsys):
    assert run("--input", "x") == 2
    assert "the following arguments are required: --output" in capsys.readouterr().err


def test_a_corpus_that_is_not_there_is_wrong_usage(tmp_path, capsys):
    assert run("--input", tmp_path / "absent", "--output", tmp_path / "ds") == 2
    assert capsys.readouterr().err == f"error: corpus must be a folder, got none there ({tmp_path}/absent)\n"


def test_an_output_among_the_scans_is_refused(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "c")
    output = corpus.images / "inner" / "ds"
    words = ["--input", str(corpus.images), "--layout", "images", "--output", str(output)]
    assert main(words) == 2
    assert f"output must be a folder apart from the scans, got {output} within" in capsys.readouterr().err
    assert not output.exists()


def test_a_folder_with_foreign_files_is_refused_before_anything_is_written(corpus, tmp_path, capsys):
    (tmp_path / "thesis.docx").write_bytes(b"years of work")
    assert run("--input", corpus.root, "--output", tmp_path) == 2
    assert "output must be an empty folder or a dataset, got one with 'thesis.docx'" in capsys.readouterr().err
    assert files_of(tmp_path) == {"thesis.docx": b"years of work"}


@pytest.mark.parametrize("text", ["nom,Gun\nP1,1\n", ""])
def test_a_list_that_is_none_ends_the_run_with_2_and_one_line(tmp_path, capsys, text):
    corpus = make_corpus(tmp_path / "c", num_train=3, num_test=0)
    (corpus.root / "ImageSet/10/train.csv").write_text(text)
    assert run("--input", corpus.root, "--output", tmp_path / "ds") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: list must begin with the columns 'name,Gun,")
    assert not (tmp_path / "ds/dataset.json").exists()


@pytest.mark.slow
def test_a_finished_dataset_is_left_alone_and_that_of_another_command_is_kept(corpus, calm, tmp_path, capsys):
    words = ("--output", tmp_path / "ds", "--max-quarantine-fraction=1")
    assert run(*words, "--input", corpus.root, f"--shard-bytes={SHARD_BYTES}") == 0
    printed, kept = capsys.readouterr().out, stamps_of(tmp_path / "ds")
    assert run(*words, "--input", corpus.root, f"--shard-bytes={SHARD_BYTES}") == 0
    again = capsys.readouterr()
    assert again.out == printed and "convert: nothing to do, the dataset is finished" in again.err
    assert run(*words, "--input", corpus.images) == 2
    assert f'input is "file://{corpus.root}" there and "file://{corpus.images}" here' in capsys.readouterr().err
    assert stamps_of(tmp_path / "ds") == kept
    assert run(*words, "--input", corpus.root, "--overwrite") == 0
    assert payload_of(tmp_path / "ds") != payload_of(calm)


def test_a_dataset_as_input_points_to_reshard(calm, tmp_path, capsys):
    assert run("--input", calm, "--output", tmp_path / "ds") == 2
    assert "input must be a corpus, got a dataset" in capsys.readouterr().err
    assert not (tmp_path / "ds").exists()


def test_an_empty_corpus_ends_the_run_with_2(tmp_path, capsys):
    (tmp_path / "c").mkdir()
    assert run("--input", tmp_path / "c", "--output", tmp_path / "ds") == 2
    assert "error: corpus must have at least one record, got none" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_3_and_the_next_one_resumes(corpus, calm, tmp_path, capsys, monkeypatch):
    write_bytes = storage.write_bytes

    def fail(url, data):
        if not url.endswith("/_drafts/job.json"):  # it is small, and the first file of a job
            raise OSError(errno.ENOSPC, "No space left on device", url)
        write_bytes(url, data)

    words = ("--input", corpus.root, "--output", tmp_path / "ds", f"--shard-bytes={SHARD_BYTES}")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", fail)
        assert run(*words) == 3
    assert "error: OSError: [Errno 28] No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "ds/dataset.json").exists()
    assert run(*words, "--max-quarantine-fraction=1") == 0
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("layout", "kitti", r"layout must be one of \('auto', 'sixray', .*'images'\), got 'kitti'"),
        ("subset", "some", r"subset must be one of \('all', 'positives', '10', '100', '1000'\), got 'some'"),
        ("shard_bytes", -1, "shard_bytes must be >= 1, got -1"),
    ],
)
def test_a_config_is_checked_when_it_is_made(field, value, message):
    with pytest.raises(ValueError, match=message):
        ConvertConfig(**({"input": "a", "output": "b"} | {field: value}))


@pytest.mark.slow
def test_several_processes_write_the_same_bytes_as_one(corpus, calm, tmp_path, monkeypatch):
    monkeypatch.setattr(process_pool, "MAX_PROCESSES", 2)
    monkeypatch.setattr(process_pool, "SMALL_JOB_SCANS", 0)
    words = ("--input", corpus.root, "--output", tmp_path / "ds", f"--shard-bytes={SHARD_BYTES}")
    assert run(*words, "--max-quarantine-fraction=1") == 0
    assert files_of(tmp_path / "ds") == files_of(calm)
    assert len(list((tmp_path / "ds").glob("*/*.tar"))) > 2


def test_auto_says_what_it_found_in_one_line_and_in_the_manifest(corpus, tmp_path, capsys):
    assert run("--input", corpus.root, "--output", tmp_path / "ds", "--max-quarantine-fraction=1") == 0
    why = "layout sixray: images in JPEGImage; annotations in Annotation; lists ImageSet/10/test.csv, "
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("convert: layout")]
    assert line == f"convert: {why}ImageSet/10/train.csv"
    options = json.loads((tmp_path / "ds/dataset.json").read_text())["options"]
    assert (options["layout"], options["found"]) == ("sixray", line.removeprefix("convert: "))


@pytest.mark.slow
def test_the_releases_archives_are_converted_where_they_lie(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=60, num_test=10)
    root = pack_release(corpus, tmp_path / "packed")
    before = files_of(root)
    for source, output in ((root, tmp_path / "a"), (corpus.root, tmp_path / "b")):
        convert_corpus(config_for(corpus, output, input=str(source)))
    tars = {name for name in files_of(tmp_path / "b") if name.endswith((".tar", ".idx"))}
    assert len(tars) > 4
    assert {name: files_of(tmp_path / "a")[name] for name in tars} == {n: files_of(tmp_path / "b")[n] for n in tars}
    assert not (tmp_path / "a/_drafts").exists() and files_of(root) == before
    assert verify.main([str(tmp_path / "a")]) == 0


def test_a_voc_corpus_has_its_classes_read_or_named_and_its_spellings_mapped(tmp_path, capsys):
    (tmp_path / "c/JPEGImages").mkdir(parents=True)
    (tmp_path / "c/Annotations").mkdir()
    (tmp_path / "c/ImageSets/Main").mkdir(parents=True)
    for number, name in enumerate(["caidao", "pilers", "Knife"]):
        (tmp_path / f"c/JPEGImages/my scan ({number}).jpg").write_bytes(jpeg_bytes(number))
        (tmp_path / f"c/Annotations/my scan ({number}).xml").write_bytes(voc_xml([(name, 1, 2, 20, 25)]))
    (tmp_path / "c/ImageSets/Main/train.txt").write_text("my scan (0)\nmy scan (1)\n")
    (tmp_path / "c/ImageSets/Main/val.txt").write_text("my scan (2)")
    words = ("--input", tmp_path / "c", "--layout=voc", "--output")
    assert run(*words, tmp_path / "read", "--classes=auto") == 0
    assert "; classes read from the annotations: Knife, caidao, pilers" in capsys.readouterr().err
    assert rows_of(tmp_path / "read")[0]["labels"] == {"Knife": 0, "caidao": 1, "pilers": 0}
    assert run(*words, tmp_path / "ds", "--classes=Knife,Pliers", "--class-map=caidao=Knife,pilers=Pliers") == 0
    rows = {row["key"]: row for row in rows_of(tmp_path / "ds")}
    assert {key: (row["split"], row["labels"]) for key, row in rows.items()} == {
        "my%20scan%20(0)": ("train", {"Knife": 1, "Pliers": 0}),
        "my%20scan%20(1)": ("train", {"Knife": 0, "Pliers": 1}),
        "my%20scan%20(2)": ("val", {"Knife": 1, "Pliers": 0}),
    }


@pytest.mark.slow
def test_other_formats_are_transcoded_when_asked_and_not_before(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=3, num_test=0)
    corpus.add_image("N90000", png_bytes(1, mode="RGBA"), suffix=".png")
    corpus.add_image("N90001", bmp_bytes(2), suffix=".bmp")
    convert_corpus(config_for(corpus, tmp_path / "plain"))
    assert reasons_of(tmp_path / "plain") == {"N90001": "unknown_format"}
    assert members_of(tmp_path / "plain")["N90000.png"] == png_bytes(1, mode="RGBA")
    convert_corpus(config_for(corpus, tmp_path / "ds", policy=Policy(transcode=True)))
    assert reasons_of(tmp_path / "ds") == {}
    images = images_of(tmp_path / "ds")
    assert (images["N90000"], images["N90001"]) == (to_jpeg(png_bytes(1, mode="RGBA")), to_jpeg(bmp_bytes(2)))
    sound = (corpus.images / "N00001.jpg").read_bytes()
    assert images["N00001"] == sound


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class-map=caidao"], "error: --class-map must be NAME=VALUE with each name once, got 'caidao'"),
        (["--class-map=caidao=Sword"], "error: class map must name one of ['Gun', 'Knife'"),
        (["--class-map=gun=Knife"], "error: class map must not rename a known spelling, got 'gun' for 'Knife'"),
        (["--classes=A,,B"], "error: classes must be different names of letters, digits, _ and -"),
        (["--classes=A,a"], "error: classes must be different names of letters, digits, _ and -"),
        (["--images=/absent"], "error: images must be a folder, .zip, .tar or .tar.gz, got none there (/absent)"),
        (["--on-contradiction=shrug"], "argument --on-contradiction: invalid choice: 'shrug'"),
    ],
)
def test_parts_and_classes_that_cannot_be_are_wrong_usage(corpus, tmp_path, capsys, words, message):
    assert run("--input", corpus.root, "--output", tmp_path / "ds", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ds").exists()


@pytest.mark.slow
def test_a_list_of_another_release_ends_the_run_with_2_and_nothing_is_written(tmp_path, capsys):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(24):
        corpus.add_scan(f"P{number:05d}", ["Gun"])
        corpus.add_annotation(f"P{number:05d}", [("Wrench", 1, 1, 9, 9)])
    words = ("--input", corpus.root, "--output", tmp_path / "ds")
    assert run(*words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "lists and boxes must agree on most scans, got 24 of 24 (100.0%) that contradict" in last
    assert not list(tmp_path.glob("ds/**/*.tar"))
    assert run(*words, "--max-contradiction-fraction=1", "--on-contradiction=keep-boxes") == 1  # no Knife
    out = capsys.readouterr().out
    assert "contradictions: 24 boxed_not_listed (P00000, P00001, P00002, P00003, P00004, …)" in out
    assert all(row["labels"]["Wrench"] == 1 for row in rows_of(tmp_path / "ds"))


@pytest.mark.slow
def test_a_subset_that_no_list_names_is_built_as_in_the_plain_calls(tmp_path, capsys):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(4):
        corpus.add_image(f"P{number:05d}")
        corpus.add_annotation(f"P{number:05d}", [("Gun", 1, 1, 9, 9)])
    for number in range(60):
        corpus.add_image(f"N{number:07d}")
    words = ("--input", corpus.root, "--subset=10", "--seed=7")
    assert run(*words, "--output", tmp_path / "ds") == 0
    assert "no list says who is in subset 10, so it is built by Section 3.1" in capsys.readouterr().err
    convert_plainly(corpus.root, tmp_path / "plain", subset="10", choice_seed=7, shard_bytes=1 << 28)
    assert payload_of(tmp_path / "ds") == payload_of(tmp_path / "plain")
    options = json.loads((tmp_path / "ds/dataset.json").read_text())["options"]
    assert (options["subset"], options["subset_from"], options["seed"]) == ("10", "paper", 7)
    assert run("--input", corpus.root, "--subset=100", "--output", tmp_path / "other") == 2
    assert "subset '100' must have 4 positives and 400 negatives, got 4 and 60" in capsys.readouterr().err


@pytest.mark.slow
def test_equal_scans_go_to_one_split_together_when_asked(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "c", num_train=20, num_test=8)
    for key, split in {"N80001": "train", "N80002": "test", "N80003": "test"}.items():
        corpus.add_image(key, jpeg_bytes(5))
        corpus.add_row(key, split=split)
    words = ("--input", corpus.root, "--output", tmp_path / "ds")
    assert run(*words) == 0
    assert "leakage: 1 byte_equal groups of 3 scans cross splits (N80001)" in capsys.readouterr().out
    assert run(*words, "--split-policy=group", "--overwrite") == 0
    assert "leakage" not in capsys.readouterr().out
    splits = {row["key"]: row["split"] for row in rows_of(tmp_path / "ds") if row["key"].startswith("N8000")}
    assert splits == dict.fromkeys(["N80001", "N80002", "N80003"], "test")
    assert not (tmp_path / "ds/leakage.parquet").exists()


@pytest.mark.slow
def test_scans_that_look_the_same_are_found_and_dealt_together_when_asked(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "c", num_train=20, num_test=8)
    for key, split, quality in (("N80001", "train", 95), ("N80002", "test", 60)):
        corpus.add_image(key, encoded(scene(1), quality=quality))
        corpus.add_row(key, split=split)
    words = ("--input", corpus.root, "--output", tmp_path / "ds", "--near-duplicates")
    assert run(*words) == 0
    assert "near_equal groups" in capsys.readouterr().out
    members = pq.read_table(tmp_path / "ds/leakage.parquet").to_pylist()
    assert {"kind": "near_equal", "group": "N80001", "key": "N80002", "split": "test"} in members
    assert run(*words, "--split-policy=group", "--overwrite") == 0
    assert "leakage" not in capsys.readouterr().out
    splits = {row["key"]: row["split"] for row in rows_of(tmp_path / "ds")}
    assert splits["N80001"] == splits["N80002"] == "test"
    assert verify.main([str(tmp_path / "ds")]) == 0
