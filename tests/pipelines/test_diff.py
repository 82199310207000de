"""Test `sixray diff`: what came, went, was renamed or changed, however the shards are cut."""

import json
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import cli
from shards.curation import differences
from shards.curation.differences import KINDS, compare_datasets
from tests.model.written import sample, write_dataset

BOX = ("Gun", 1.0, 2.0, 30.0, 40.0)


def write(root, samples, **more):
    """A dataset whose images are their `image` fields."""
    rows = [{name: value for name, value in row.items() if name != "image"} for row in samples]
    images = {row["key"]: row["image"] for row in samples}
    return write_dataset(root, rows, images=images, metadata={"site": "string"}, **more)


def scan(key, labels=(0, 0), image=None, **more):
    return sample(key, labels, **more) | {"image": image or key.encode()}


def changes_of(first, second):
    with compare_datasets(first, second) as found:
        return [tuple(change) for change in found], found.summarise()


def test_each_kind_of_difference_is_found(tmp_path, capsys):
    first = [
        scan("same", (1, None), boxes=[BOX]),
        scan("gone"),
        scan("old name", (1, 0)),
        scan("relabelled", (0, None)),
        scan("boxed"),
        scan("other bytes", image=b"1"),
        scan("grouped", group="bag 1"),
        scan("moved", metadata={"site": "a"}),
    ]
    second = [
        scan("same", (1, None), boxes=[BOX]),
        scan("new"),
        scan("new name", (1, 0), image=b"old name"),
        scan("relabelled", (1, 0)),
        scan("boxed", boxes=[BOX]),
        scan("other bytes", image=b"2"),
        scan("grouped", group="bag 2"),
        scan("moved", metadata={"site": "b"}),
    ]
    a, b = write(tmp_path / "a", first), write(tmp_path / "b", second, num_shards=3)
    found, summary = changes_of(a, b)
    assert [(kind, key, what) for kind, key, what, _, _ in found] == [
        ("came", "new", None),
        ("went", "gone", None),
        ("renamed", "new name", None),
        ("image", "other bytes", None),
        ("label", "relabelled", "Gun"),
        ("label", "relabelled", "Knife"),
        ("boxes", "boxed", None),
        ("group", "grouped", None),
        ("metadata", "moved", "site"),
    ]
    by_kind = {kind: (before, after) for kind, _, _, before, after in found}
    assert by_kind["renamed"] == ("old name", "new name") and by_kind["group"] == ("bag 1", "bag 2")
    assert by_kind["metadata"] == ("a", "b") and by_kind["label"] == (None, "0")
    assert summary["num_same"] == 1 and summary["counts"]["split"] == 0
    assert cli.main(["diff", a.url, b.url]) == 1
    printed = capsys.readouterr().out
    assert "other label: 1 (relabelled)\n  Gun 0 -> 1: 1\n  Knife null -> 0: 1" in printed
    assert "renamed: 1 (new name)" in printed and "same: 1" in printed


def test_a_dataset_is_the_same_as_itself_in_other_shards_and_another_order(tmp_path, capsys):
    boxes = [BOX, ("Knife", 5.0, 5.0, 6.0, 6.0)]
    rows = [scan(f"k{n}", (n % 2, None), boxes=boxes) for n in range(20)]
    a = write(tmp_path / "a", rows)
    b = write(tmp_path / "b", [row | {"boxes": row["boxes"][::-1]} for row in rows[::-1]], num_shards=4)
    assert cli.main(["diff", a.url, b.url]) == 0
    assert capsys.readouterr().out.endswith("same: 20\n")


def test_another_split_and_another_set_of_classes_are_named(tmp_path, capsys):
    a, b = write(tmp_path / "a", [scan("x")]), write(tmp_path / "b", [scan("x")], split="train")
    assert changes_of(a, b)[0] == [("split", "x", None, "test", "train")]
    c = write_dataset(tmp_path / "c", [sample("x", (0, 0))], classes=("Gun", "Knife", "Hammer", "Saw"))
    d = write_dataset(tmp_path / "d", [sample("x", (0, 0))])
    assert cli.main(["diff", c.url, d.url]) == 1
    assert "classes went: Saw" in capsys.readouterr().out


def test_copies_are_matched_one_by_one(tmp_path):
    a = write(tmp_path / "a", [scan(key, image=b"copy") for key in ("a1", "a2", "a3")])
    b = write(tmp_path / "b", [scan(key, image=b"copy") for key in ("a1", "b2")])
    found, _ = changes_of(a, b)
    assert [(kind, key, before) for kind, key, _, before, _ in found][1:] == [("renamed", "b2", "a2")]
    assert found[0][:2] == ("went", "a3")


def test_the_json_document_and_the_list_hold_every_change(tmp_path, capsys):
    a = write(tmp_path / "a", [scan(f"k{n}") for n in range(30)])
    b = write(tmp_path / "b", [scan(f"k{n}") for n in range(12, 30)])
    assert cli.main(["diff", a.url, b.url, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert len(document["changes"]) == document["counts"]["went"] == 12 and len(document["examples"]["went"]) == 5
    assert cli.main(["diff", a.url, b.url, "--list"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and lines[0].split("\t")[:2] == ["went", "k0"]
    assert cli.main(["diff", a.url, a.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == []


def test_what_is_no_dataset_is_refused(tmp_path, capsys):
    a = write(tmp_path / "a", [scan("x")])
    assert cli.main(["diff", a.url, str(tmp_path)]) == 2
    assert "dataset must have a dataset.json" in capsys.readouterr().err


@pytest.mark.slow
@settings(max_examples=40)
@given(
    keys=st.tuples(*[st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz"), max_size=5)] * 2),
)
def test_every_scan_of_both_is_accounted_for(tmp_path_factory, keys):
    folders = [tmp_path_factory.mktemp("diff") for _ in keys]
    datasets = [
        write(folder, [scan(key, image=image.encode()) for key, image in of.items()]) if of else None
        for folder, of in zip(folders, keys, strict=True)
    ]
    if None in datasets:
        return
    changes, summary = changes_of(*datasets)
    counts = {kind: sum(change[0] == kind for change in changes) for kind in KINDS}
    first, second = keys
    assert summary["counts"] == counts
    assert summary["num_same"] == sum(second.get(key) == image for key, image in first.items())
    assert len(first) - counts["went"] == len(second) - counts["came"]
    assert counts["image"] == sum(key in second and second[key] != image for key, image in first.items())


@pytest.mark.slow
def test_the_comparison_keeps_its_limit_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(differences, "MEMORY", "64MB")
    rows = [sample(f"{n:06}", (n % 2, 0)) for n in range(60_000)]
    a = write_dataset(tmp_path / "a", rows, num_shards=6)
    b = write_dataset(tmp_path / "b", [row | {"labels": {**row["labels"], "Knife": 1}} for row in rows], num_shards=5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with compare_datasets(a, b) as found:
        assert found.summarise()["counts"]["label"] == 60_000
        assert sum(1 for _ in found) == 60_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
