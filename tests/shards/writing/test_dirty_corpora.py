"""Of any corpus, however dirty, every record ends as a sample with its bytes or as a refusal by name."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.format.keys import encode_key
from tests.corpora import (
    NOTHING,
    CorpusWriter,
    images_of,
    jpeg_bytes,
    payload_of,
    rows_of,
)
from tests.shards.plain_calls import convert_plainly

pytestmark = pytest.mark.slow

STEMS = st.sampled_from(["N1", "N2", "P3", "a.b c", "ü/x".replace("/", "-"), "k" * 96, "P5", "P6"])
DATA = st.sampled_from(["sound", "same", "empty", "cut", "garbage", "zeros"])
LABELS = st.sampled_from([NOTHING, ("Gun",), ("Knife", "Gun")])
DIRT = st.fixed_dictionaries(
    {
        "images": st.lists(st.tuples(STEMS, st.sampled_from(["", "a", "b"]), st.sampled_from([".jpg", ".PNG"]), DATA)),
        "rows": st.lists(
            st.tuples(STEMS, LABELS, st.sampled_from(["train", "test"]), st.sampled_from(["10", "100", "1000"]))
        ),
        "lines": st.lists(st.sampled_from(["", "x", "N1,1,1", ",1,1,1,1,1", "\x00\r", "P3,1,-1,-1,-1,?"])),
        "annotations": st.lists(
            st.tuples(STEMS, st.sampled_from(["", "more/"]), st.sampled_from(["Gun", "knife", "Bomb", "xml", "none"]))
        ),
    }
)
IMAGES = {
    "same": jpeg_bytes(5),
    "empty": b"",
    "cut": jpeg_bytes(1)[:-40],
    "garbage": b"\xff\xd8\x00",
    "zeros": bytes(99),
}


def write_dirt(root: Path, dirt) -> CorpusWriter:
    corpus = CorpusWriter(root)
    corpus.add_annotation("P-any")
    for number, (stem, folder, suffix, data) in enumerate(dirt["images"]):
        corpus.add_image(stem, IMAGES.get(data, jpeg_bytes(100 + number)), folder=folder, suffix=suffix)
    for name, present, split, subset in dirt["rows"]:
        corpus.add_row(name, present, split=split, subset=subset)
    for line in dirt["lines"]:
        corpus.add_line(line)
        corpus.add_row("N-any")  # a list of which no line can be used stops the conversion
    for stem, folder, kind in dirt["annotations"]:
        text = b"<annotation>" if kind == "xml" else None
        corpus.add_annotation(f"{folder}{stem}", [] if kind == "none" else [(kind, 1, 1, 9, 9)], text=text)
    return corpus


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(dirt=DIRT, seed=st.integers(0, 99))
def test_of_any_dirty_corpus_every_file_is_in_the_tars_byte_for_byte_or_refused_by_name(dirt, seed):
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_dirt(Path(scratch) / "c", dirt)
        output = Path(scratch) / "ds"
        manifest = convert_plainly(corpus.root, output, seed=seed)
        rows, refused = rows_of(output), rows_of(output, "quarantine")
        images = images_of(output)
        where = {row["source_uri"]: row["key"] for row in rows}
        refused_uris = Counter(row["source_uri"] for row in refused)
        for path in (path for path in corpus.images.rglob("*") if path.is_file()):
            uri = path.as_uri() if path.as_uri() in where else f"file://{path}"
            assert (uri in where) != (refused_uris[uri] > 0), path
            if uri in where:
                assert images[where[uri]] == path.read_bytes()
                assert where[uri] == encode_key(path.stem)
        for split, counts in manifest.ledger.items():
            assert counts.listed == counts.converted + counts.quarantined
            assert counts.converted == sum(row["split"] == split for row in rows)
        assert sum(counts.quarantined for counts in manifest.ledger.values()) == len(refused)
        assert sum((Counter(c.quarantined_by_reason) for c in manifest.ledger.values()), Counter()) == Counter(
            row["reason"] for row in refused
        )
        named = {row["key"] for row in rows} | {row["key"] for row in refused}
        assert {encode_key(name) for name, *_ in dirt["rows"]} <= named
        assert {encode_key(stem) for stem, *_ in dirt["annotations"]} <= named
        num_bad_lines = sum(bool(line.strip()) for line in dirt["lines"])
        assert Counter(row["reason"] for row in refused)["bad_list_row"] == num_bad_lines
        assert sorted(images) == sorted(row["key"] for row in rows) == sorted(set(images))
        convert_plainly(corpus.root, Path(scratch) / "other", seed=seed + 1)
        assert payload_of(Path(scratch) / "other") == payload_of(output)
