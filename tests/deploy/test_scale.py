"""Tests of how elements, keys and side inputs grow with 10, 100 and 1,000 million scans, as the runbook says.

Nothing of that size is made: each figure is a count that follows from the code times a measured size. The steps are
read from the jobs' graphs, so a new step that gathers elements fails here until it is added.
"""

import functools
import marshal
import pickle
import random
import re
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.pipeline import PipelineVisitor

from pipelines.runtime.runners import make_beam_options, make_pipeline
from pipelines.steps import corpus_job, reshard_job
from pipelines.steps.corpus_job import ConvertConfig, Job
from pipelines.steps.reshard_job import ReshardConfig, make_selection
from pipelines.transforms.convert import add_conversion
from pipelines.transforms.reshard import add_resharding
from pipelines.transforms.score import add_scoring
from pipelines.transforms.verify import add_verification
from shards.corpus.description import Corpus, Source
from shards.corpus.facts import AnnotationFact, ImageFact, RowFact
from shards.corpus.records import ScanRef
from shards.curation.contradictions import MAX_EXAMPLES, Contradictions
from shards.curation.leakage import NEAR_EQUAL, Member
from shards.curation.near_duplicates import Fingerprint, Pair, spread_bands
from shards.curation.neighbours import NEIGHBOURS, NUM_BINS, Look, spread_looks
from shards.curation.subsets import Selection, take_census
from shards.format.classes import load_class_set
from shards.format.dataset import Dataset
from shards.format.keys import hash_key, place_in
from shards.format.manifest import DatasetManifest, ShardInfo
from shards.predictions.plan import ShardTask
from shards.shuffle import NUM_PARTITIONS, batch_by, pack, unpack
from shards.verify.dataset import CheckedShard, batch_rows_by_key, choose_num_ranges
from shards.verify.shard import Damage
from shards.writing import sharding
from shards.writing.dataset_samples import SampleRef
from shards.writing.finish import FinishedShard, spread_checksums
from shards.writing.shard_writer import WrittenShard
from shards.writing.sharding import Tally
from tests.deploy.manifests import DEPLOY

IMAGE_BYTES, SHARD_BYTES = 100_000, 256 * 1024 * 1024
SCANS_A_SHARD = SHARD_BYTES // IMAGE_BYTES
SCANS = {"10 million": 10**7, "100 million": 10**8, "1,000 million": 10**9}
MEASURED = 20_000
EQUAL, LEAKED, DAMAGED = 1 / 10, 1 / 1000, 1 / 10_000
"""The runbook's assumptions: shares of scans with an equal one, in two splits, damaged."""

URL = "s3://sixray/corpus"
CLASSES = load_class_set("sixray")
CHANCE = random.Random(0)


class Gathering(PipelineVisitor):
    """Collect the steps that gather elements: groupings, combiners, side inputs, and constants of the job."""

    def __init__(self):
        self.steps = set()

    def enter_composite_transform(self, node):
        self.visit_transform(node)

    def visit_transform(self, node):
        meets = (beam.Create, beam.GroupByKey, beam.CoGroupByKey, beam.CombineGlobally, beam.CombinePerKey)
        if isinstance(node.transform, meets) or node.side_inputs:
            self.steps.add(node.full_label.partition("/")[0])


def gathering_steps(pipeline):
    visitor = Gathering()
    pipeline.visit(visitor)
    return visitor.steps


def graphs():
    """Build every command's graph with all options."""
    made = {name: make_pipeline(make_beam_options([])) for name in ("convert", "reshard", "verify", "score")}
    corpus = Corpus("sixray", URL, (Source("images", URL),), builds_subset=True)
    everything = ConvertConfig(input=URL, output="/out", subset="10", split_policy="group", near_duplicates=True)
    everything = replace(everything, group_by=NEIGHBOURS)
    job = Job(corpus=corpus, classes=CLASSES)
    add_conversion(made["convert"], job, everything, corpus_job.plan_dataset(job, everything))
    manifest = DatasetManifest(
        classes=CLASSES.all,
        scored_classes=CLASSES.scored,
        shards=(shard_info(),),
        ledger={},
        options={},
        versions={},
    )
    dataset = Dataset("s3://sixray/dataset", manifest)
    config = ReshardConfig(inputs=(dataset.url,), output="/out", subset="10")
    selection = make_selection(config, (dataset,))
    add_resharding(made["reshard"], (dataset,), selection, reshard_job.plan_dataset(config, (dataset,), selection))
    add_verification(made["verify"], dataset, "/report.json")
    add_scoring(made["score"], [shard_task()], beam.DoFn())
    return made


def random_hex(num_bits=256):
    return f"{CHANCE.getrandbits(num_bits):0{num_bits // 4}x}"


def key(n):
    return f"N{n * 37:07d}"


def image_url(n):
    return f"{URL}/JPEGImage/{key(n)}.jpg"


def size_bytes(n):
    return 60_000 + n * 37 * 7919 % 80_000


def refs(num):
    return [ScanRef(key(n), "train", image_url(n), size_bytes(n), (0,) * 5, f"{URL}/{n * 37}.xml") for n in range(num)]


def facts(num):
    images = [ImageFact(key(n), image_url(n), size_bytes(n)) for n in range(num)]
    rows = [RowFact(key(n), f"{URL}/ImageSet/10/train.csv", 0, "train", (0,) * 5, "") for n in range(num)]
    return [*images, *rows, *(AnnotationFact(key(n), f"{URL}/Annotation/{key(n)}.xml") for n in range(num))]


def samples(num):
    url, found = "s3://sixray/dataset", []
    for n in range(num):
        row = {
            "key": key(n),
            "split": "train",
            "sha256": random_hex(),
            "width_px": 600 + n % 300,
            "height_px": 400 + n % 200,
            "labels": dict.fromkeys(CLASSES.all, 0),
            "boxes": [],
            "source_uri": image_url(n),
            "duplicate_of": None,
        }
        place = (size_bytes(n), n * IMAGE_BYTES, f"{url}/train/{shard_info().name}.tar", marshal.dumps(row))
        found.append(SampleRef(key(n), 0, shard_info().name, n, "", "train", *place))
    return found


def fingerprint(n):
    return Fingerprint(key(n), "train", random_hex(), CHANCE.getrandbits(64))


def look(n):
    """Of a real scan two bins in five have pixels, 28 is their median, and 132 bytes are left when packed."""
    counts = np.random.default_rng(n).lognormal(3.4, 2, NUM_BINS) * (np.arange(NUM_BINS) % 5 < 2)
    return Look(key(n), "N", n, np.minimum(counts, 2**16 - 1).astype(np.uint16).tobytes())


def shard_info():
    return ShardInfo(
        name="train-000007-of-400000",
        split="train",
        num_scans=2600,
        num_quarantined=3,
        image_bytes=SHARD_BYTES,
        tar_bytes=SHARD_BYTES,
        digest=random_hex(),
        samples_sha256=random_hex(),
        quarantine_sha256=random_hex(),
    )


def shard_task():
    url = "s3://sixray/datasets/2026-01-01"
    return ShardTask(shard_info(), f"{url}/train/x.tar", f"{url}/samples/x.parquet", f"{url}/chr", "unscored")


def num_shards(num_scans):
    return Tally(num_scans, num_scans, num_scans * IMAGE_BYTES).num_shards(SHARD_BYTES)


def pickled(item):
    return len(pickle.dumps(item))


def in_batches(batches, num):
    """Return the bytes per item of `num` items in (key, batch): the smaller the batches, the more."""
    return sum(len(batch) for _, batch in batches) / num


def checksum_bytes(num_scans):
    shard = WrittenShard(shard_info(), tuple((random_hex(), key(n)) for n in range(SCANS_A_SHARD)), False)
    return in_batches(spread_checksums(shard, {"train": Tally(num_scans, num_scans, num_scans)}), SCANS_A_SHARD)


def row_bytes(num_scans):
    rows = tuple((key(n), random_hex(), shard_info().name, None) for n in range(SCANS_A_SHARD))
    shard = CheckedShard("train", SCANS_A_SHARD, {}, rows, (), SHARD_BYTES)
    return in_batches(batch_rows_by_key(shard, choose_num_ranges(num_scans)), SCANS_A_SHARD)


def dealt_bytes(records, num_scans):
    """Return the bytes of a record assigned to its shard."""
    num_together = 65_536 * NUM_PARTITIONS // num_shards(num_scans)
    return len(pack(records[:num_together])) / len(records[:num_together])


@functools.cache
def laws():
    """Return the bytes of the largest element or side input by command and step, as functions of the scans."""
    examples = {f"kind {n}": tuple((key(at), random_hex(320)) for at in range(MAX_EXAMPLES)) for n in range(8)}
    contradictions = pickled(Contradictions(1, 1, dict.fromkeys(examples, 1), examples))
    tallies = pickled({split: Tally(1, 1, 1) for split in ("train", "test", "unlisted")})
    info, finished = pickled(shard_info()), pickled(FinishedShard(shard_info(), {"missing_image": 3}))
    duplicates = pickled((shard_info(), {key(n): key(n + 1) for n in range(SCANS_A_SHARD)}))
    member = pickled([Member(NEAR_EQUAL, key(n), key(n), "train") for n in range(MEASURED)]) / MEASURED
    census = pickled(take_census(((key(n), False) for n in range(MEASURED)), 0))
    shared = {
        "GatherCensuses": lambda num: census / MEASURED * num,
        "SelectSubset": lambda num: pickled(Selection(0, 2**63, 2**63, 2**63, 2**63)),
        **dict.fromkeys(("SumTallies", "AssignShards", "SpreadChecksums"), lambda num: tallies),
        "GroupByChecksum": lambda num: checksum_bytes(num) * num / max(1, num // 100_000),
        "GroupByShardName": lambda num: duplicates,
        "GatherShards": lambda num: finished * num_shards(num),
        "WriteManifest": lambda num: member * LEAKED * num,
    }
    records, copies = refs(SCANS_A_SHARD), samples(SCANS_A_SHARD)
    fact = in_batches(sharding.batch_facts(facts(MEASURED)), MEASURED)
    sample = in_batches(sharding.batch_by_key(copies), SCANS_A_SHARD)
    bands = in_batches(spread_bands(map(fingerprint, range(MEASURED))), MEASURED)
    pairs = [Pair(NEAR_EQUAL, fingerprint(n), fingerprint(n + 1)) for n in range(MEASURED)]
    moves = pickled({key(n): "test" for n in range(MEASURED)}) / MEASURED
    looks = in_batches(spread_looks(map(look, range(MEASURED))), MEASURED)
    links = pickled([(key(n), key(n + 1)) for n in range(MEASURED)]) / MEASURED
    convert = {
        "GroupByBlock": lambda num: looks * num / NUM_PARTITIONS,
        **dict.fromkeys(("GatherLinks", "GroupRecords"), lambda num: links * EQUAL * num),
        **dict.fromkeys(("CreateSources", "SpreadSources"), lambda num: pickled(Source("images", URL))),
        "GroupByKeyHash": lambda num: fact * num / NUM_PARTITIONS,
        "GroupByBand": lambda num: bands * num / NUM_PARTITIONS,
        "GatherPairs": lambda num: pickled(pairs) / MEASURED * EQUAL * num,
        **dict.fromkeys(("FindNearEqual", "MoveRecords"), lambda num: moves * LEAKED * num),
        **dict.fromkeys(("SumContradictions", "AwaitFindings"), lambda num: contradictions),
        "GroupByShard": lambda num: dealt_bytes(records, num) * SCANS_A_SHARD,
    }
    reshard = {
        "CreateShards": lambda num: info * num_shards(num),
        "SpreadShards": lambda num: info,
        "GroupByKeyHash": lambda num: sample * num / NUM_PARTITIONS,
        "GroupByShard": lambda num: dealt_bytes(copies, num) * SCANS_A_SHARD,
    }
    counts = pickled(CheckedShard("train", 2600, {"missing_image": 3}, (), (), SHARD_BYTES))
    damage = pickled(Damage(f"samples/{shard_info().name}.parquet", key(1), "checksum_mismatch", random_hex(512)))
    verify = {
        "CreateShards": lambda num: info * num_shards(num),
        "SpreadShards": lambda num: info,
        **dict.fromkeys(
            ("GroupByChecksum", "GroupByKeyHash"),
            lambda num: row_bytes(num) * num / choose_num_ranges(num),
        ),
        "GatherCounts": lambda num: counts * num_shards(num),
        "GatherDamages": lambda num: damage * DAMAGED * num,
    }
    task = pickled(shard_task())
    score = {"CreateTasks": lambda num: task * num_shards(num), "SpreadTasks": lambda num: task}
    commands = {"convert": shared | convert, "reshard": shared | reshard, "verify": verify, "score": score}
    return {(command, step): law for command, steps in commands.items() for step, law in steps.items()}


@functools.cache
def table():
    """Return the runbook's table: megabytes by command, step and number of scans."""
    text = (DEPLOY / "README.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|[^|]*\| ([\d.,]+) \| ([\d.,]+) \| ([\d.,]+) \|$", text, re.MULTILINE)
    return {
        (command, step): dict(zip(SCANS, (float(cell.replace(",", "")) for cell in cells), strict=True))
        for commands, steps, *cells in rows
        for command in commands.split(", ")
        for step in re.findall(r"`(\w+)`", steps)
    }


@pytest.mark.slow
@pytest.mark.parametrize(("command", "step"), table())
def test_the_runbook_says_how_large_it_grows(command, step):
    for label, num_scans in SCANS.items():
        megabytes = laws()[command, step](num_scans) / 1e6
        assert table()[command, step][label] == pytest.approx(megabytes, rel=0.3, abs=0.006), label


@pytest.mark.slow
def test_every_step_where_elements_meet_is_in_the_table_and_no_other():
    found = {(command, step) for command, pipeline in graphs().items() for step in gathering_steps(pipeline)}
    assert table().keys() == found
    assert laws().keys() == found


def test_a_step_that_gathers_anew_is_seen():
    pipeline = make_pipeline(make_beam_options([]))
    numbers = pipeline | "CreateNumbers" >> beam.Create([1])
    total = numbers | "SumNumbers" >> beam.CombineGlobally(sum)
    numbers | "ListNumbers" >> beam.combiners.ToList()
    numbers | "AddTotal" >> beam.Map(lambda number, total: number + total, beam.pvalue.AsSingleton(total))
    numbers | "KeepNumbers" >> beam.Map(abs)
    assert gathering_steps(pipeline) == {"CreateNumbers", "SumNumbers", "ListNumbers", "AddTotal"}


def test_ranges_of_keys_are_even():
    counts = [0] * NUM_PARTITIONS
    for number in range(200_000):
        counts[place_in(hash_key(f"N{number:07d}"), NUM_PARTITIONS)] += 1
    assert max(counts) < 1.2 * 200_000 / NUM_PARTITIONS


def test_a_batch_holds_a_bounded_number_of_items():
    sizes = [len(unpack(batch)) for _, batch in batch_by(range(150_000), lambda _: 0)]
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


@pytest.mark.parametrize("num_scans", SCANS.values())
def test_a_range_of_verify_has_at_most_half_a_million_rows(num_scans):
    assert num_scans / choose_num_ranges(num_scans) <= 500_001
    assert choose_num_ranges(1000) == NUM_PARTITIONS


def test_no_element_holds_image_bytes():
    # An image is read where its shard is written; this much per scan is shuffled.
    assert len(pack(refs(5000))) / 5000 < 40
    assert len(pickle.dumps(refs(5000))) / 5000 < 300
