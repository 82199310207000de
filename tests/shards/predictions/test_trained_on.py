"""Test that scans which a model was trained on are known again, by their checksums, in any dataset."""

import hashlib
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipelines import cli
from shards.format.dataset import open_dataset
from shards.predictions.trained_on import (
    NUM_CHECKSUMS,
    find_known_scans,
    find_trained_share,
    is_training_data,
    sample_checksums,
)
from tests.golden import steps


class _Scans:
    """A dataset of which only the checksums of its scans are read."""

    manifest = SimpleNamespace(digest="this")

    def __init__(self, numbers):
        self._sha256 = [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]

    def read_samples(self, split, columns):
        assert (split, columns) == ("test", ["sha256"])
        return pa.table({"sha256": pa.array(self._sha256, pa.string())})


def scans(numbers):
    return _Scans(numbers)


@pytest.mark.parametrize("num", [0, 1, 700, NUM_CHECKSUMS - 1])
def test_of_few_scans_each_is_known(num):
    sample = sample_checksums(scans(range(num)), "test")
    found = find_known_scans(sample, scans([*range(num), -1, -2]), "test")
    assert (found.num_known, found.num_compared) == (num, num + 2)


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 1])
def test_of_many_scans_the_share_of_known_ones_is_estimated(share):
    sample = sample_checksums(scans(range(20_000)), "test")
    assert len(sample) == 12 * NUM_CHECKSUMS
    rated = 10_000
    found = find_known_scans(
        sample, scans(range(round(20_000 - share * rated), round(20_000 + (1 - share) * rated))), "test"
    )
    assert found.num_compared > 400
    assert found.share == pytest.approx(share, abs=0.08) and (share in (0, 1)) <= (found.share == share)
    assert is_training_data(found.share) == (share > 0.1)


def test_no_scan_that_can_be_compared_leaves_it_open():
    sample = sample_checksums(scans(range(1_000_000, 1_020_000)), "test")
    lowest_first = sorted(range(100), key=lambda number: hashlib.sha256(str(number).encode()).hexdigest())
    trained_on = {"dataset_digest": "other", "splits": ["train"], "checksums": sample}
    assert find_trained_share(trained_on, scans(lowest_first[50:]), "test") is None is is_training_data(None)


def test_the_digest_decides_where_a_run_names_no_scans():
    for splits, share in ((["train", "test"], 1.0), (["train"], 0.0)):
        assert find_trained_share({"dataset_digest": "this", "splits": splits}, scans([1]), "test") == share
    assert find_trained_share(None, scans([1]), "test") is None


def test_the_same_scans_are_known_after_a_reshard_into_other_shards(tmp_path):
    dataset = open_dataset(str(steps.DATASET))
    words = ["--input", dataset.url, "--output", str(tmp_path / "again"), "--shard-bytes", "1000000"]
    assert cli.main(["reshard", *words, "--max-quarantine-fraction", "1"]) == 0
    again = open_dataset(str(tmp_path / "again"))
    assert again.manifest.digest != dataset.manifest.digest
    trained_on = {"dataset_digest": dataset.manifest.digest, "splits": ["train"]}
    assert find_trained_share(trained_on, again, "train") == 0.0
    trained_on["checksums"] = sample_checksums(dataset, "train")
    assert find_trained_share(trained_on, again, "train") == 1.0
    assert (find_trained_share(trained_on, again, "test") or 0) < 0.1
