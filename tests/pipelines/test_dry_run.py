"""Test that a dry run foresees what the conversion does, and that a dataset nobody can work with is called so."""

import pytest

from pipelines.convert import main
from shards.curation.findings import summarise_dataset
from shards.format.dataset import open_dataset
from tests.corpora import SCORED, CorpusWriter, jpeg_bytes, make_corpus


def run(*words: object) -> int:
    """Run the command as a shell would."""
    return main([str(word) for word in words])


def add_odd_scans(corpus: CorpusWriter) -> None:
    """Add what is refused before an image is read."""
    corpus.add_row("N90000")
    corpus.add_image("N90001", b"")
    corpus.add_scan("P90002", ["Gun"])
    corpus.add_row("P90002", ["Knife"])
    corpus.add_image("N90003", jpeg_bytes(3))
    for stem in ("P90005", "P90004"):
        corpus.add_scan(stem, ["Gun"])
        corpus.add_annotation(stem, [("Gun", 20, 2, 1, 25), ("Bomb", 1, 1, 9, 9)])


def test_a_dry_run_foresees_the_conversion_and_writes_nothing(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "c", num_train=24, num_test=8)
    add_odd_scans(corpus)
    before = sorted(tmp_path.rglob("*"))
    words = ("--input", corpus.root, "--output", tmp_path / "ds", "--max-quarantine-fraction=0.2")
    assert run(*words, "--dry-run") == 0
    foreseen = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert run(*words) == 0
    made = capsys.readouterr().out
    summary = summarise_dataset(open_dataset(str(tmp_path / "ds")))
    cells = [line.replace("│", " ").split() for line in foreseen.splitlines() if line.startswith("│")]
    splits = {row[0]: [int(cell) for cell in row[1:]] for row in cells}
    assert sorted(splits) == sorted(open_dataset(str(tmp_path / "ds")).manifest.ledger)
    for split, (num_scans, num_refused, *positives) in splits.items():
        assert num_scans == summary.scans[split]
        assert num_refused == sum(n for (of, _), n in summary.refused.items() if of == split)
        assert positives[: len(SCORED)] == [summary.positives[split, name] for name in SCORED]
    assert "refused: 1 missing_image (N90000); to mend: give the folder that has the images by --images" in foreseen
    assert "refused: 1 label_contradiction (P90002); to mend: --on-contradiction keep-list" in foreseen
    assert "contradictions: " in foreseen
    repairs = [line for line in foreseen.splitlines() if line.startswith("repairs: ")]
    assert repairs == [line for line in made.splitlines() if line.startswith("repairs: ")]
    assert [line[:44] for line in repairs] == [
        "repairs: 2 reversed_box, such as P90004: Gun",
        "repairs: 2 unknown_class, such as P90004: an",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda corpus: [corpus.add_scan(f"P{n:05d}", SCORED, split="test") for n in range(5)],
            "no scan is in train",
        ),
        (
            lambda corpus: (
                [corpus.add_scan(f"P{n:05d}", ["Gun"]) for n in range(5)] + [corpus.add_row("P9", ["Knife"])]
            ),
            "no scan has Knife or Wrench",
        ),
        (
            lambda corpus: [corpus.add_row(f"P{n:05d}", SCORED) for n in range(5)],
            "5 of 5 scans are refused as",
        ),
    ],
)
def test_a_dataset_that_nobody_can_work_with_is_called_so_first(tmp_path, capsys, make, message):
    corpus = CorpusWriter(tmp_path / "c")
    make(corpus)
    words = ("--input", corpus.root, "--output", tmp_path / "ds", "--max-quarantine-fraction=1")
    for more in (["--dry-run"], []):
        assert run(*words, *more) == 1
        assert capsys.readouterr().out.startswith(f"findings: {message}")
    assert (tmp_path / "ds/dataset.json").exists()


def test_what_the_corpus_itself_lacks_is_a_finding(tmp_path, capsys):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(5):
        corpus.add_scan(f"P{number:05d}", ["Gun"], split="test")
    (corpus.root / "ImageSet/10/train.csv").unlink()
    assert run("--input", corpus.root, "--output", tmp_path / "ds") == 1
    found = capsys.readouterr().out.splitlines()
    assert found[0].startswith("findings: no scan is in train")
    assert found[1].startswith("findings: no scan has Knife or Wrench")
    assert (tmp_path / "ds/dataset.json").exists()


def test_a_folder_of_images_needs_no_labels(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.jpg").write_bytes(jpeg_bytes(1))
    assert run("--input", tmp_path / "c", "--output", tmp_path / "ds", "--dry-run") == 0
    assert run("--input", tmp_path / "c", "--output", tmp_path / "ds") == 0
