"""How do elements, keys and side inputs grow with 10, 100 and 1,000 million scans? As the runbook's table says.

Nothing of that size is made here: each figure is a law of the code (how scans are dealt) times a size that is measured.
"""

import pickle
import re

import pytest

from shards import plan
from shards.batches import pack, unpack
from shards.corpus import hash_key, place_in
from shards.dataset import ShardInfo
from shards.finish import FinishedShard, spread_checksums
from shards.plan import NUM_PARTITIONS, Tally
from shards.records import ScanRef
from shards.resume import ShardTask
from shards.writer import WrittenShard
from tests.deploy.manifests import DEPLOY

IMAGE_BYTES, SHARD_BYTES = 100_000, 256 * 1024 * 1024
SCANS = {"10 million": 10**7, "100 million": 10**8, "1,000 million": 10**9}
DIGEST = "0123456789abcdef" * 4


def refs(num):
    url = "s3://sixray/corpus"
    return [
        ScanRef(
            f"N{n:07d}",
            "train",
            f"{url}/JPEGImage/N{n:07d}.jpg",
            60_000 + n * 7919 % 80_000,
            (0,) * 5,
            f"{url}/{n}.xml",
        )
        for n in range(0, num * 37, 37)
    ]


def shard_info(num_shards=400_000):
    return ShardInfo(
        name=f"train-00007-of-{num_shards}",
        split="train",
        num_scans=2600,
        num_quarantined=3,
        image_bytes=SHARD_BYTES,
        tar_bytes=SHARD_BYTES,
        digest=DIGEST,
        samples_sha256=DIGEST,
        quarantine_sha256=DIGEST,
    )


def num_shards(num_scans):
    return Tally(num_scans, num_scans, num_scans * IMAGE_BYTES).num_shards(SHARD_BYTES)


def laws():
    """Return megabytes at each number of scans, by what grows: largest element of the step, or its side input."""
    record = len(pack(refs(20_000))) / 20_000
    info = shard_info()
    finished = len(pickle.dumps(FinishedShard(info, {"missing_image": 3})))
    url = "s3://sixray/datasets/2026-01-01"
    task = len(
        pickle.dumps(ShardTask(info, f"{url}/train/x.tar", f"{url}/samples/x.parquet", f"{url}/chr", "unscored"))
    )
    checksums = tuple((f"{n:064x}", f"N{n:07d}") for n in range(2600))
    written = len(pickle.dumps(WrittenShard(info, checksums, False)))
    tallies = len(pickle.dumps({split: Tally(1, 1, 1) for split in ("train", "test", "unlisted")}))
    return {
        "JoinFacts": lambda num: record * num / NUM_PARTITIONS,
        "GroupByShard": lambda num: record * num / num_shards(num),
        "WriteShard": lambda num: written,
        "GroupByChecksum": lambda num: written / 2600 * 200_000,
        "GatherShards": lambda num: finished * num_shards(num),
        "SumTallies": lambda num: tallies,
        "CreateTasks": lambda num: task * num_shards(num),
    }


def table():
    """Return the runbook's table: megabytes by step and number of scans."""
    text = (DEPLOY / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([\d.,]+) \| ([\d.,]+) \| ([\d.,]+) \|$", text, re.MULTILINE)
    return {
        name: dict(zip(SCANS, (float(cell.replace(",", "")) for cell in cells), strict=True)) for name, *cells in rows
    }


@pytest.mark.parametrize("step", laws())
def test_the_runbook_says_how_large_it_grows(step):
    for label, num_scans in SCANS.items():
        megabytes = laws()[step](num_scans) / 1e6
        assert table()[step][label] == pytest.approx(megabytes, rel=0.3, abs=0.006), label


def test_the_table_has_no_step_that_is_not_measured():
    assert table().keys() == laws().keys()


def test_ranges_of_keys_are_even():
    counts = [0] * NUM_PARTITIONS
    for number in range(200_000):
        counts[place_in(hash_key(f"N{number:07d}"), NUM_PARTITIONS)] += 1
    assert max(counts) < 1.2 * 200_000 / NUM_PARTITIONS


def test_a_batch_holds_a_bounded_number_of_items():
    sizes = [len(unpack(batch)) for _, batch in plan.batch_by(range(150_000), lambda _: 0)]
    assert sizes == [65_536, 65_536, 150_000 - 2 * 65_536]


@pytest.mark.parametrize("num_scans", SCANS.values())
def test_a_shard_has_as_many_scans_in_any_corpus(num_scans):
    assert num_scans / num_shards(num_scans) == pytest.approx(SHARD_BYTES / IMAGE_BYTES, rel=0.01)


@pytest.mark.parametrize("num_scans", SCANS.values())
def test_a_range_of_checksums_has_as_many_in_any_corpus(num_scans):
    checksums = tuple((f"{hash_key(str(n)):064x}"[-64:], str(n)) for n in range(3000))
    shard = WrittenShard(shard_info(), checksums, False)
    tallies = {"train": Tally(num_scans, num_scans, num_scans * IMAGE_BYTES)}
    ranges = {number for number, _ in spread_checksums(shard, tallies)}
    assert max(ranges) < num_scans // 100_000
    assert 100_000 <= num_scans / (num_scans // 100_000) < 200_000


def test_no_element_holds_image_bytes():
    # An image is read where its shard is written; what travels is this much a scan.
    assert len(pack(refs(5000))) / 5000 < 40
    assert len(pickle.dumps(refs(5000))) / 5000 < 300
