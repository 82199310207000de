"""Test what `sixray info` prints of a folder."""

import json
import tarfile

import pytest

from pipelines.convert import main as convert
from pipelines.info import describe, main
from shards.format.dataset import open_dataset
from tests.corpora import jpeg_bytes, make_corpus, png_bytes
from tests.shards.plain_calls import convert_plainly


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset with one refusal and one byte-equal pair."""
    corpus = make_corpus(tmp_path_factory.mktemp("c"), num_train=24, num_test=6)
    corpus.add_image("N90000", (corpus.images / "N00001.jpg").read_bytes())
    corpus.add_image("N90001", b"")
    output = tmp_path_factory.mktemp("ds") / "ds"
    convert_plainly(corpus.root, output)
    return output


def test_a_dataset_is_its_manifest_with_positives_and_duplicates(root):
    document = describe(str(root))
    manifest = json.loads((root / "dataset.json").read_text())
    assert document == {
        "kind": "dataset",
        **manifest,
        "positives": {
            "test": {"Gun": 0, "Knife": 0, "Wrench": 1, "Pliers": 0, "Scissors": 1, "Hammer": 0},
            "train": {"Gun": 2, "Knife": 2, "Wrench": 1, "Pliers": 2, "Scissors": 1, "Hammer": 0},
            "unlisted": dict.fromkeys(manifest["classes"], 0),
        },
        "num_duplicates": 1,
    }


def test_json_on_stdout_is_one_document(root, capsys):
    assert main([str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == describe(str(root))


def test_words_on_stdout_hold_every_figure(root, capsys):
    assert main([str(root)]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("│ train"))
    assert [cell.strip() for cell in line.split("│")[1:6]] == ["train", "24", "24", "0", "1"]
    assert "kind: dataset" in out and "num_duplicates: 1" in out
    assert f"digest: {open_dataset(str(root)).manifest.digest}" in out


def test_predictions_are_their_run(tmp_path, capsys):
    run = {"format": 1, "model_id": "chr-resnet18-0123456789ab", "parts": []}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "predictions", **run}


def test_a_folder_that_is_none_of_the_three_ends_with_2(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    expected = f"error: folder must hold dataset.json, run.json or config.json, got none of them ({tmp_path}); an unfin"
    assert capsys.readouterr().err.startswith(expected)


def test_a_damaged_manifest_ends_with_2(tmp_path, capsys):
    (tmp_path / "dataset.json").write_text("{")
    assert main([str(tmp_path)]) == 2
    assert "error: dataset manifest must be a JSON document of format 1" in capsys.readouterr().err


def test_a_misspelt_flag_ends_with_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([str(tmp_path), "--jsn"])
    assert leaving.value.code == 2
    assert "unrecognized arguments: --jsn" in capsys.readouterr().err


def test_what_sources_disagree_on_and_what_leaks_is_said(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "c", num_train=12, num_test=3)
    corpus.add_image("N90000", (corpus.images / "N00001.jpg").read_bytes())
    corpus.add_row("N90000", split="test")
    corpus.add_row("N90001")
    convert_plainly(corpus.root, tmp_path / "ds")
    assert main([str(tmp_path / "ds")]) == 0
    out = capsys.readouterr().out
    assert "contradictions: 1 missing_image (N90001)" in out
    assert "leakage: 1 byte_equal groups of 2 scans cross splits (N00001)" in out


def test_the_quarantine_is_listed_by_name_and_a_dataset_without_samples_is_described(tmp_path, capsys):
    (tmp_path / "corpus").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "corpus" / name).write_bytes(b"no image" if name == "a.jpg" else b"")
    convert_plainly(tmp_path / "corpus", tmp_path / "ds")
    assert main([str(tmp_path / "ds")]) == 0
    assert "unlisted" in capsys.readouterr().out
    assert main([str(tmp_path / "ds"), "--quarantine"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["empty_file", "b"], ["unknown_format", "a"]]
    assert lines[1][2] == f"file://{tmp_path}/corpus/a.jpg"
    assert main([str(tmp_path / "ds"), "--quarantine", "--reason=empty_file", "--json"]) == 0
    assert [row["key"] for row in json.loads(capsys.readouterr().out)] == ["b"]
    assert main([str(tmp_path / "ds"), "--quarantine", "--reason=x"]) == 2
    assert "reason must be one of ['empty_file', 'unknown_format'], got x" in capsys.readouterr().err
    assert main([str(tmp_path / "ds"), "--reason=x"]) == 2


@pytest.mark.parametrize(("words", "extensions"), [([], {"jpg", "png", "json"}), (["--transcode"], {"jpg", "json"})])
def test_shards_that_mix_jpeg_and_png_are_named_with_the_remedy(tmp_path, capsys, words, extensions):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.jpg").write_bytes(jpeg_bytes(1))
    (tmp_path / "corpus" / "b.png").write_bytes(png_bytes(2))
    assert convert(["--input", str(tmp_path / "corpus"), "--output", str(tmp_path / "ds"), *words]) == 0
    (tar,) = (tmp_path / "ds").glob("*/*.tar")
    with tarfile.open(tar) as archive:
        assert {name.rpartition(".")[2] for name in archive.getnames()} == extensions
    is_mixed = "png" in extensions
    assert ("formats: shards mix JPEG and PNG" in capsys.readouterr().out) == is_mixed
    assert main([str(tmp_path / "ds")]) == 0
    out = capsys.readouterr().out
    assert ("formats: shards mix JPEG and PNG" in out and "--transcode to make" in out) == is_mixed
