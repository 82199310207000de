"""A dataset's root stands for every record, and proofs for one of them hold against no other."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.verify import main as verify
from shards.format.attestation import check_attestation
from shards.format.dataset import open_dataset
from shards.format.merkle import follow, prove, tree_root
from tests.corpora import make_corpus, reasons_of
from tests.shards.plain_calls import convert_plainly

TEXTS = st.lists(st.text(max_size=4), max_size=40)


def root_of_rfc_6962(texts: list[str]) -> bytes:
    """The definition: the left half is the largest power of two below the number."""
    if not texts:
        return hashlib.sha256().digest()
    if len(texts) == 1:
        return hashlib.sha256(b"\0" + texts[0].encode()).digest()
    half = 1 << ((len(texts) - 1).bit_length() - 1)
    halves = root_of_rfc_6962(texts[:half]) + root_of_rfc_6962(texts[half:])
    return hashlib.sha256(b"\1" + halves).digest()


@given(TEXTS)
def test_the_root_is_that_of_rfc_6962(texts):
    assert tree_root(texts) == root_of_rfc_6962(texts).hex()


@given(TEXTS.filter(bool), st.data())
def test_a_path_leads_from_its_text_to_the_root_and_from_no_other(texts, data):
    at = data.draw(st.integers(0, len(texts) - 1))
    path = prove(texts, at)
    assert follow(texts[at], path) == tree_root(texts)
    assert follow(f"{texts[at]}x", path) != tree_root(texts)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("attestation")
    make_corpus(root / "corpus", num_train=9, num_test=3)
    next((root / "corpus").rglob("P*.jpg")).write_bytes(b"")
    convert_plainly(root / "corpus", root / "ds", shard_bytes=4_000)
    return open_dataset(str(root / "ds"))


def test_every_record_that_was_listed_is_proved_converted_or_refused(dataset, capsys):
    refused = list(reasons_of(Path(dataset.url)))
    converted = [key for split in dataset.manifest.splits for key in dataset.read_samples(split)["key"].to_pylist()]
    assert len(refused) >= 1
    for what, keys in (("converted", converted), ("refused", refused)):
        for key in keys:
            root, (proof,) = check_attestation(dataset.url, dataset.manifest, key)
            assert json.loads(proof.record)[0] == what and proof.root == root == dataset.manifest.attestation["root"]
    assert verify([dataset.url, "--attest", "--key", refused[0]]) == 0
    first, line = capsys.readouterr().out.splitlines()
    assert root in first and json.loads(line)["root"] == root
    assert verify([dataset.url, "--attest", "--key", "nobody"]) == 2
    assert "key must be one that was listed" in capsys.readouterr().err


def test_another_root_and_a_dataset_without_one_are_refused_with_what_to_do(dataset):
    shards = dataset.manifest.attestation["shards"]
    name = min(shards)
    other = replace(dataset.manifest, attestation={"root": "0" * 64, "shards": shards | {name: "0" * 64}})
    with pytest.raises(ValueError, match=rf"must have root 0+, as its manifest says, .*{name}.*sixray verify"):
        check_attestation(dataset.url, other)
    with pytest.raises(ValueError, match=r"must have an attestation, got none .*earlier release"):
        check_attestation(dataset.url, replace(dataset.manifest, attestation={}))
