"""A model of milliseconds, datasets and an output folder, and `sixray score` between them."""

import hashlib
import json

import pytest
import torch

from model.artifacts.saved_model import save_model
from model.networks.config import InputConfig, ModelConfig
from model.networks.registry import build_network
from pipelines import score
from shards.format.dataset import open_dataset
from shards.format.shard_reader import read_rows
from shards.predictions.run import open_predictions
from tests.shards.by_hand import CLASSES, overwrite, small_dataset

TEST, TRAIN_0, TRAIN_1 = "test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"


def make_model(folder, seed=0, classes=CLASSES, fusion="average"):
    torch.manual_seed(seed)
    config = ModelConfig(backbone="resnet10t", classes=classes, input=InputConfig(size_px=64), fusion=fusion)
    return save_model(str(folder), build_network(config), config)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder and id of a small model."""
    folder = tmp_path_factory.mktemp("model")
    return str(folder), make_model(folder)


@pytest.fixture
def bench(tmp_path, model):
    """A small dataset and that model."""
    return Bench(tmp_path, model)


class Bench:
    """A dataset, a model, an output folder, and the command between them; the engine is forced, so no trial is run."""

    def __init__(self, root, model):
        self.root, (self.model, self.model_id) = root, model
        self.dataset = small_dataset(root / "ds")
        self.output = root / "pred"
        self.folder = self.output / self.model_id

    def score(self, *words, inputs=("ds",)):
        given = {word.partition("=")[0] for word in words}
        return score.main([*(word for word in self.words(inputs) if word.partition("=")[0] not in given), *words])

    def words(self, inputs=("ds",)):
        inputs = [word for name in inputs for word in ("--input", str(self.root / name))]
        way = ["--engine=eager", "--dtype=float32", "--batch-size=4"]
        return ["--model", self.model, *inputs, "--output", str(self.output), *way]

    def run(self):
        return json.loads((self.folder / "run.json").read_text())

    def files(self):
        """Name, inode, time and checksum of every file."""
        return {
            str(path.relative_to(self.output)): (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in sorted(self.output.rglob("*"))
            if path.is_file()
        }

    def tar(self, name):
        return self.root / "ds" / name.partition("-")[0] / f"{name}.tar"

    def dataset_now(self):
        return open_dataset(str(self.root / "ds"))

    def rows(self, name):
        (shard,) = [shard for shard in self.dataset.shards() if shard.name == name]
        return read_rows(self.dataset.samples_url(shard), shard.num_scans)

    def logits(self):
        rows = open_predictions(str(self.folder)).read_rows(columns=["key", "logits"]).to_pylist()
        return {row["key"]: row["logits"] for row in rows}

    def damage(self, name, place):
        """Zero an image; return its key."""
        row = self.rows(name)[place]
        overwrite(self.tar(name), row.offset_bytes, bytes(row.size_bytes))
        return row.key
