"""A corpus of any layout goes through convert, reshard and exports for annotation tools with every box and label."""

import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.annotate import AnnotateConfig, export_annotations, import_annotations
from pipelines.reshard import reshard_datasets
from pipelines.steps.reshard_job import ReshardConfig
from shards.corpus.layouts.registry import choose_classes, find_corpus
from tests.corpora import CorpusWriter, reasons_of, rows_of
from tests.shards.annotation.test_round_trips import IMPORTED
from tests.shards.corpus.layouts import twins
from tests.shards.corpus.layouts.test_twins import CASES
from tests.shards.plain_calls import convert_plainly

EDGES = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")
READ_BY_CONVERT = ("coco", "voc", "yolo")
SAYS_UNKNOWN = ("coco",)
"""Formats in which an image without boxes may be unlabelled."""


def write_sixray(root: Path, _scans: Sequence[twins.Truth]) -> None:
    corpus = CorpusWriter(root)
    corpus.add_scan("P00001", ("Gun", "Knife"))
    corpus.add_scan("P00002", ("Wrench",), split="test")
    corpus.add_scan("N0000001")
    corpus.add_image("N0000002")


def write_hixray(root: Path, scans: Sequence[twins.Truth]) -> None:
    kept = [replace(scan, split="test" if scan.split == "val" else scan.split) for scan in scans if scan.boxes]
    twins.write_hixray(root, kept)


LAYOUTS: dict[str, Callable[[Path, Sequence[twins.Truth]], None]] = {
    **{name: case[0] for name, case in CASES.items()},
    "hixray": write_hixray,
    "dvxray": twins.write_dvxray,
    "sixray": write_sixray,
}


def scans_of(dataset: Path) -> dict[str, Any]:
    """Return the rows by the keys of the scans that were exported: the name of a picture is its scan's key."""
    return {urllib.parse.unquote(row["key"]): row for row in rows_of(dataset)}


def boxes_of(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    return sorted((box["class"], *(box[edge] for edge in EDGES)) for box in row["boxes"])


def check_same(found: dict[str, Any], expected: dict[str, Any], *, says_unknown: bool) -> None:
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        boxes, wanted = boxes_of(found[key]), boxes_of(row)
        assert [box[0] for box in boxes] == [box[0] for box in wanted]
        for box, other in zip(boxes, wanted, strict=True):
            assert box[1:] == pytest.approx(other[1:], abs=0.01)
        labels = {name: label for name, label in row["labels"].items() if says_unknown or label is not None}
        assert {name: found[key]["labels"][name] for name in labels} == labels
        assert found[key]["sha256"] == row["sha256"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_box_and_label_survives_conversion_resharding_and_export(tmp_path, layout):
    LAYOUTS[layout](tmp_path / "c", twins.make_truth())
    manifest = convert_plainly(tmp_path / "c", tmp_path / "one")
    reshard_datasets(ReshardConfig(inputs=(str(tmp_path / "one"),), output=str(tmp_path / "two"), shard_bytes=3_000))
    before = {row["key"]: row for row in rows_of(tmp_path / "one")}
    assert {row["key"]: (row["labels"], row["boxes"]) for row in rows_of(tmp_path / "two")} == {
        key: (row["labels"], row["boxes"]) for key, row in before.items()
    }
    for format_name, imported in IMPORTED.items():
        folder = tmp_path / format_name
        config = AnnotateConfig(action="export", data=str(tmp_path / "two"), output=str(folder), format=format_name)
        assert export_annotations(config).num_scans == len(before)
        if format_name in READ_BY_CONVERT:
            corpus = find_corpus(str(folder), "auto", "all")
            assert corpus.layout == format_name
            # As --classes does: of a class without a box a VOC folder says nothing that `convert` reads.
            classes = choose_classes(corpus, manifest.classes, {}) if format_name == "voc" else None
            convert_plainly(folder, tmp_path / f"{format_name}-again", classes=classes)
            assert reasons_of(tmp_path / f"{format_name}-again") == {}
            found = scans_of(tmp_path / f"{format_name}-again")
            check_same(found, before, says_unknown=format_name in SAYS_UNKNOWN)
        else:
            config = replace(
                config, action="import", output=str(tmp_path / "c.csv"), file=str(folder / imported), author="A"
            )
            assert import_annotations(config).corrections == ()
