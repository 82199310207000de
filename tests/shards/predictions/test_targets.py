"""Test which datasets inputs name and where their predictions go."""

import json
from pathlib import Path

import pytest

from shards.predictions.plan import find_targets
from tests.shards.by_hand import make_jpeg, write_dataset

MODEL_ID = "chr-resnet18-0123456789ab"
NAME = "unlisted-00000-of-00001"


def dataset_at(folder, seed=0):
    return write_dataset(folder, {NAME: [("N1", make_jpeg(seed))]})


def folders(found, root):
    return {
        str(Path(target.predictions_url).relative_to(root)): [Path(d.url).name for d in target.datasets]
        for target in found.targets
    }


@pytest.fixture
def archive(tmp_path):
    for number, name in enumerate(("2026-03-01", "2026-03-02")):
        dataset_at(tmp_path / "archive" / name, number)
    return tmp_path / "archive"


def test_datasets_that_are_named_share_a_folder(tmp_path, archive):
    found = find_targets([str(archive / "2026-03-02"), str(archive / "2026-03-01")], str(tmp_path / "p"), MODEL_ID)
    assert folders(found, tmp_path / "p") == {MODEL_ID: ["2026-03-02", "2026-03-01"]}


def test_each_dataset_of_an_archive_has_a_folder_that_a_new_one_does_not_move(tmp_path, archive):
    before = folders(find_targets([str(archive)], str(tmp_path / "p"), MODEL_ID), tmp_path / "p")
    assert before == {f"{name}/{MODEL_ID}": [name] for name in ("2026-03-01", "2026-03-02")}
    dataset_at(archive / "2026-02-28")
    after = folders(find_targets([str(archive)], str(tmp_path / "p"), MODEL_ID), tmp_path / "p")
    assert after == before | {f"2026-02-28/{MODEL_ID}": ["2026-02-28"]}


def test_archives_and_datasets_may_be_named_together(tmp_path, archive):
    alone = dataset_at(tmp_path / "alone")
    found = find_targets([str(archive), alone.url], str(tmp_path / "p"), MODEL_ID)
    assert [len(target.datasets) for target in found.targets] == [1, 1, 1]
    assert folders(found, tmp_path / "p")[MODEL_ID] == ["alone"]


def test_what_is_unfinished_or_unreadable_in_an_archive_is_named_and_the_rest_is_found(tmp_path, archive):
    (archive / "2026-03-03/train").mkdir(parents=True)
    (archive / ".hidden").mkdir()
    manifest = archive / "2026-03-01/dataset.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 3}))
    found = find_targets([str(archive)], str(tmp_path / "p"), MODEL_ID)
    assert list(folders(found, tmp_path / "p").values()) == [["2026-03-02"]]
    assert found.unfinished == (str(archive / "2026-03-03"),)
    (words,) = found.refused
    assert words.startswith("dataset must have format 1 or 2, got 3") and "convert the corpus again" in words


def test_two_datasets_of_one_name_in_two_archives_are_refused(tmp_path, archive):
    dataset_at(tmp_path / "other/2026-03-01")
    with pytest.raises(ValueError, match=r"datasets of archives must have different names, got .*--output of its own"):
        find_targets([str(archive), str(tmp_path / "other")], str(tmp_path / "p"), MODEL_ID)


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_datasets_is_no_archive(tmp_path, name):
    (tmp_path / "empty/child").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"dataset must have a dataset\.json, got none"):
        find_targets([str(tmp_path / name)], str(tmp_path / "p"), MODEL_ID)
