"""Stages of the scorer work ahead of one another, across shards too: shown by order, not by time.

Each test makes a stage wait for what a later stage would otherwise keep it from; a scorer that works batch by batch
would wait in vain.
"""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from model.hardware import Hardware
from model.inputs.decoded_batch import Decoded
from model.networks.config import ModelConfig
from model.scoring.engine_selection import EngineSpec
from model.scoring.scorer import Scorer, ShardFiles, UnreadShard
from model.scoring.scoring_network import StartedBatch
from tests.shards.by_hand import CLASSES, make_jpeg, write_dataset

BATCH_SIZE, NUM_BATCHES, NUM_SHARDS = 2, 2, 3
WAIT_SECONDS = 20


class Events:
    """What happened, in order; one may wait for it."""

    def __init__(self):
        self.seen, self.condition = [], threading.Condition()

    def add(self, *event):
        with self.condition:
            self.seen.append(event)
            self.condition.notify_all()

    def wait_for(self, *event):
        with self.condition:
            came = self.condition.wait_for(lambda: event in self.seen, WAIT_SECONDS)
        assert came, f"{event} must come before, got {self.seen}"


class Decoder:
    """Decodes nothing."""

    def __init__(self, events):
        self.events, self.num = events, 0

    def decode_ahead(self, batches):
        for label, encoded, _ in batches:
            self.events.add("decode", self.num)
            self.num += 1
            windows_B4 = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(encoded), 1)
            yield label, Decoded(torch.zeros(len(encoded), 3, 1, 1), {}, windows_B4)


class Network:
    """Computes zeros."""

    def __init__(self, events, before_result):
        self.events, self.before_result, self.num = events, before_result, 0
        self.config = ModelConfig(backbone="resnet10t", classes=CLASSES)
        self.hardware = Hardware(device="cpu", dtype="float32", decode_device="cpu", num_cores=2, name="none")
        self.spec = EngineSpec("eager", "float32")
        self.batch_size = self.requested_batch_size = BATCH_SIZE
        self.box_share = None

    def start(self, images_BCHW, sizes_px_B2, windows_B4):
        self.events.add("start", self.num)
        zeros_BP = torch.zeros(len(images_BCHW), 8 * len(CLASSES) + 2)
        started = Started(self, self.num, StartedBatch(zeros_BP, None, len(CLASSES), sizes_px_B2, windows_B4))
        self.num += 1
        return started


def scorer_of(events, before_result=lambda number: None) -> Any:
    """Return a scorer whose network and decoder only say when they begin."""
    network: Any = Network(events, before_result)
    decoder: Any = Decoder(events)
    return Scorer(network, decoder=decoder)


class Started:
    """Waits for what must have begun before its result is taken."""

    def __init__(self, network, number, batch):
        self.network, self.number, self.batch = network, number, batch

    def result(self):
        self.network.before_result(self.number)
        self.network.events.add("result", self.number)
        return self.batch.result()


@pytest.fixture
def shards(tmp_path):
    names = [f"test-{number:05d}-of-{NUM_SHARDS:05d}" for number in range(NUM_SHARDS)]
    num_scans = BATCH_SIZE * NUM_BATCHES
    images = {
        name: [(f"N{at}{number}", make_jpeg(number)) for number in range(num_scans)] for at, name in enumerate(names)
    }
    dataset = write_dataset(tmp_path, images)
    return [ShardFiles.of(dataset, shard) for shard in dataset.shards()]


LAST = NUM_BATCHES * NUM_SHARDS - 1


@pytest.mark.parametrize(("stage", "num_ahead"), [("start", 1), ("decode", 2)])
def test_a_stage_begins_later_batches_before_the_result_of_one_is_taken(shards, stage, num_ahead):
    events = Events()

    def wait(number):
        events.wait_for(stage, min(number + num_ahead, LAST))

    scorer = scorer_of(events, wait)
    found = list(scorer.score_shards(shards))
    assert [scores.predictions.num_rows for scores in found] == [BATCH_SIZE * NUM_BATCHES] * NUM_SHARDS
    assert [number for name, number in events.seen if name == "result"] == list(range(LAST + 1))


def test_the_next_shard_is_opened_while_one_is_scored(shards):
    events = Events()

    def given():
        for number, shard in enumerate(shards):
            events.add("take", number)
            yield shard

    def wait(number):
        events.wait_for("take", min(number // NUM_BATCHES + 1, NUM_SHARDS - 1))

    scorer = scorer_of(events, wait)
    assert len(list(scorer.score_shards(given()))) == NUM_SHARDS


def test_what_is_ahead_is_bounded(shards):
    events, many = Events(), [shards[0]] * 50
    taken = []

    def given():
        for shard in many:
            taken.append(shard)
            yield shard

    scorer = scorer_of(events)
    scored = scorer.score_shards(given())
    next(scored)
    scored.close()
    assert len(taken) <= 8


def test_an_unreadable_shard_costs_no_other_and_a_reader_that_stops_early_leaves_no_thread(shards, tmp_path):
    scorer = scorer_of(Events())
    broken = shards[1]._replace(tar_url=str(tmp_path))
    first, second, third = scorer.score_shards([shards[0], broken, shards[2]])
    assert isinstance(second, UnreadShard) and isinstance(second.error, IsADirectoryError)
    assert (first.predictions.num_rows, third.predictions.num_rows) == (4, 4)
    before = set(threading.enumerate())
    scored = scorer.score_shards(shards)
    next(scored)
    scored.close()
    assert set(threading.enumerate()) <= before


def test_an_error_of_the_network_ends_all_stages(shards):
    scorer = scorer_of(Events())

    def fail(*args):
        raise OSError("out of memory")

    scorer._network.start = fail
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="out of memory"):
        list(scorer.score_shards(shards))
    assert set(threading.enumerate()) <= before


def test_an_empty_shard_has_empty_tables(tmp_path):
    dataset = write_dataset(tmp_path, {"test-00000-of-00001": []})
    scorer = scorer_of(Events())
    (scores,) = scorer.score_shards(ShardFiles.of(dataset, shard) for shard in dataset.manifest.shards)
    assert (scores.predictions.num_rows, scores.quarantine.num_rows) == (0, 0)
    assert np.array_equal(scores.predictions["key"].to_numpy(), [])
