"""Test that neighbouring scans that look like one bag get a group, and go to one split when asked."""

import io

import pytest

from pipelines import info
from pipelines.convert import main
from tests.corpora import CorpusWriter, rows_of
from tests.shards.curation.test_neighbours import bag


@pytest.mark.slow
def test_neighbours_that_look_like_one_bag_are_a_group_and_go_to_one_split_when_asked(tmp_path, capsys):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(12):
        out = io.BytesIO()
        bag(number // 3, turn=20 * number).save(out, "JPEG", quality=90)
        corpus.add_image(f"P{number:05d}", out.getvalue())
        corpus.add_row(f"P{number:05d}", ["Gun"], split="test" if number % 3 == 2 else "train")
    words = ["--input", str(corpus.root), "--output", str(tmp_path / "ds"), "--group-by", "neighbours"]
    assert main(words) == 1  # the lists name Knife and Wrench, which no scan has
    assert "groups: 12 scans are in 4 groups of one bag each" in capsys.readouterr().out
    groups = {row["key"]: row["group"] for row in rows_of(tmp_path / "ds")}
    assert groups == {f"P{number:05d}": f"P{number // 3 * 3:05d}" for number in range(12)}
    assert info.main([str(tmp_path / "ds")]) == 0
    assert "groups: 12 scans are in 4 groups" in capsys.readouterr().out
    assert main([*words, "--split-policy=group", "--overwrite"]) == 1
    assert {row["split"] for row in rows_of(tmp_path / "ds")} == {"train"}


def test_a_column_called_as_the_groups_of_neighbours_must_be_renamed(tmp_path, capsys):
    corpus = CorpusWriter(tmp_path / "c")
    corpus.add_scan("P00001", ["Gun"])
    (tmp_path / "meta.csv").write_text("name,neighbours\nP00001,A\n")
    words = ["--input", str(corpus.root), "--output", str(tmp_path / "ds"), "--group-by", "neighbours"]
    assert main([*words, "--metadata", str(tmp_path / "meta.csv")]) == 2
    assert "group_by must be clear, got 'neighbours', which is a column too" in capsys.readouterr().err
