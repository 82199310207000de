"""A dataset to reshard, the command, and what is compared of its output."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.reshard import main
from pipelines.steps.reshard_job import ReshardConfig
from tests.corpora import (
    jpeg_bytes,
    make_corpus,
    rows_of,
)
from tests.shards.plain_calls import convert_plainly

SHARD_BYTES = 15_000
PLACE = ("shard", "offset_bytes", "duplicate_of")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A dataset of several shards with refusals, one of them of a whole split, and byte-equal scans; for reading."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=64, num_test=20)
    corpus.add_row("N90000")
    corpus.add_image("N90001", b"")
    corpus.add_image("N90002", jpeg_bytes(1)[:-50])
    corpus.add_row("N90002")
    corpus.add_scan("P90004", ("Gun", "Knife"))
    corpus.add_image("N90003", (corpus.images / "N00001.jpg").read_bytes())
    corpus.add_row("N90003", split="test")
    output = tmp_path_factory.mktemp("source") / "ds"
    convert_plainly(corpus.root, output, shard_bytes=SHARD_BYTES)
    assert len(list(output.glob("train/*.tar"))) > 2
    return output


def config_for(source: Path, output: Path, **changes) -> ReshardConfig:
    return replace(ReshardConfig(inputs=(str(source),), output=str(output)), **changes)


def run(*words: object) -> int:
    """Run the command as a shell would; argparse leaves by SystemExit."""
    try:
        return main([str(word) for word in words])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def contents(dataset: Path) -> dict[str, dict[str, Any]]:
    """Each sample's row but for its place, by key."""
    rows = rows_of(dataset)
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: {name: value for name, value in row.items() if name not in PLACE} for row in rows}
