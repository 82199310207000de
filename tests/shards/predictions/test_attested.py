"""A run proves for each scan that it was scored, with its logits, or refused."""

import json

import pytest

from pipelines.verify import main as verify
from shards.predictions.attested import attest_parts, check_attested
from shards.predictions.run import checksum_parts, open_predictions, run_document, write_run
from tests.shards.by_hand import CLASSES
from tests.shards.predictions.test_parts import MODEL, info_of, write

PARTS = [info_of(reasons={"undecodable": 1}), info_of("train-00000-of-00001", num_scored=5)]


@pytest.fixture
def root(tmp_path):
    url = str(tmp_path / "predictions")
    for info in PARTS:
        write(url, info)
    document = run_document(MODEL, [], PARTS, None) | {"sha256": checksum_parts(url, PARTS, {})}
    write_run(url, document | {"attestation": attest_parts(url, PARTS, CLASSES, {})})
    return url


def test_every_scan_is_proved_scored_with_its_logits_or_refused(root, capsys):
    predictions = open_predictions(root)
    for key, begin in (("N4", ["scored", "train", "N4", [0.25] * len(CLASSES)]), ("Q0", ["refused", "test", "Q0"])):
        found, (proof,) = check_attested(predictions, key)
        assert json.loads(proof.record)[: len(begin)] == begin
        assert proof.root == found == predictions.run["attestation"]["root"]
    assert verify([root, "--attest", "--key", "N4"]) == 0
    first, line = capsys.readouterr().out.splitlines()
    assert first == f"root: {found}, over 8 records" and json.loads(line)["root"] == found
    assert verify([root, "--attest", "--key", "nobody"]) == 2


def test_other_logits_have_another_root_and_known_roots_are_kept(root):
    write(root, info_of(num_scored=3, reasons={"undecodable": 1}))
    with pytest.raises(ValueError, match=r"predictions must have root .* got .*test-00000-of-00001"):
        check_attested(open_predictions(root))
    shards = open_predictions(root).run["attestation"]["shards"]
    assert attest_parts(root, PARTS, CLASSES, shards)["shards"] == shards


def test_a_run_without_attestation_says_what_to_do(root):
    write_run(root, {name: value for name, value in open_predictions(root).run.items() if name != "attestation"})
    with pytest.raises(ValueError, match=r"must have an attestation, got none .*score into a new folder"):
        check_attested(open_predictions(root))
