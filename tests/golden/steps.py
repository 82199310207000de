"""The fixtures of format 1 and the commands that made them: the script writes with these, the tests repeat them.

Everything of the project that the fixtures need is imported here and nowhere else in this folder.

Jobs read from fsspec's store in memory: datasets and predictions name the place that they were made from, and this one
is the same on every machine.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback

from model.artifacts.saved_model import load_model, save_model
from model.hardware import detect_hardware
from model.networks.config import AttentionConfig, InputConfig, ModelConfig
from model.networks.registry import build_network
from model.recipes.registry import RECIPES
from model.training.checkpoints import read_checkpoint
from model.training.config import AdamW, TrainConfig
from model.training.trainer import train
from pipelines.cli import main as sixray
from shards.format.dataset import open_dataset
from tests.golden import tiny_backbone

__all__ = ["RECIPES", "load_model", "read_checkpoint", "save_model", "sixray"]

ROOT = Path(__file__).parent / "format1"
CORPUS, DATASET, MODEL, SXMNET = (ROOT / name for name in ("corpus", "dataset", "model", "model_sxmnet"))
RUN, PREDICTIONS, REPORT, ALARMS = (ROOT / name for name in ("run", "predictions", "report", "alarms"))
LABELS, EXPECTED, FINAL_WEIGHTS = ROOT / "level-labels.parquet", ROOT / "expected.json", ROOT / "run_final.npz"
SXMNET_WEIGHTS = SXMNET / "model.safetensors.zst"

DAMAGED_KEY = "N00007"
"""A scan of the test split, whose image is zeroed before the dataset is scored."""
STOPPED_BEFORE_STEP = 11
"""Of the run's optimizer steps, counted from 0 over both epochs."""
TEN_POSITIVES = ("P00003", "P00009", "P00042")
SEED = 3
"""Of the choice of subsets."""
RESHARDS: dict[str, list[str]] = {
    "where": ["--shard-bytes=12000", "--where", "labels.Gun = 1 or width_px > 64 or split = 'test'"],
    "positives": ["--subset=positives", f"--seed={SEED}"],
    "ten": ["--subset=10", f"--seed={SEED}", "--where", f"key in {TEN_POSITIVES} or key like 'N%'"],
}
"""What `sixray reshard` is told besides its input and output."""
_MEMORY = "golden-format1"


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Hide GPUs while the block runs: the fixtures were made without one."""
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        yield


@contextlib.contextmanager
def in_memory(folder: Path, *, damaged_key: str | None = None, without: str = "") -> Iterator[str]:
    """Give the URL of a copy of a folder in memory while the block runs.

    Args:
        folder: what to copy.
        damaged_key: of a sample of the dataset, whose image is zeroed in the copy.
        without: name of a folder that is left out.
    """
    fs = fsspec.filesystem("memory")
    place = f"/{_MEMORY}/{folder.name}"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and without not in path.relative_to(folder).parts:
            fs.pipe(f"{place}/{path.relative_to(folder)}", path.read_bytes())
    if damaged_key is not None:
        (row,) = (row for row in rows_of(folder / "samples") if row["key"] == damaged_key)
        tar = f"{place}/{row['split']}/{row['shard']}"
        data, start = fs.cat_file(tar), row["offset_bytes"]
        fs.pipe(tar, data[:start] + bytes(row["size_bytes"]) + data[start + row["size_bytes"] :])
    try:
        yield f"memory:/{place}"
    finally:
        fs.rm(place, recursive=True)


def run(*words: object) -> int:
    """Run `sixray` in this process; return its exit code."""
    return sixray([str(word) for word in words])


def convert(output: Path) -> int:
    """Convert the corpus."""
    with in_memory(CORPUS) as corpus:
        limits = ["--shard-bytes=24000", "--max-quarantine-fraction=0.1"]
        return run("convert", "--input", corpus, "--output", output, *limits)


def convert_positives(output: Path) -> int:
    """Convert the scans with an item as if no list were there: who is for testing follows from a hash."""
    with in_memory(CORPUS, without="ImageSet") as corpus:
        return run("convert", "--input", corpus, "--output", output, "--subset=positives", f"--seed={SEED}")


def reshard(name: str, output: Path) -> int:
    """Make one of `RESHARDS` of the dataset."""
    with in_memory(DATASET) as dataset:
        return run("reshard", "--input", dataset, "--output", output, *RESHARDS[name])


class StoppedError(Exception):
    """What ends a run half-way."""


class StopBefore(Callback):
    """Stops a run as a killed machine would, before the step with this number, counted over all epochs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Raise where the step is reached."""
        if trainer.global_step == self.step:
            raise StoppedError


def config_sha256(config: Any) -> str:
    """Return the sha256 of what a run records of its config."""
    return hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()


def train_run(folder: Path, callbacks: Sequence[Callback] = (), checkpoint_seconds: float = 300.0) -> Path:
    """Begin the run in a folder, or go on with it; return the folder of its model."""
    config = TrainConfig(
        recipe="default",
        optimizer=AdamW(),
        backbone=tiny_backbone.NAME,
        image_size_px=48,
        resize_px=56,
        batch_size=4,
        max_epochs=2,
        learning_rate=0.003,
        classifier_rate=10.0,
        validation_fraction=0.25,
        positive_repeats=2,
        seed=1,
    )
    hardware = replace(
        detect_hardware(), device="cpu", dtype="float32", decode_device="cpu", num_cores=1, num_devices=1, name="golden"
    )
    # Without oneDNN: with AVX2 alone it writes wrong gradients, some of them outside their tensor, for 1x1 convolutions
    # of stride 2 with fewer than 8 inputs in channels last (torch 2.15; real backbones have no such layer).
    torch.backends.mkldnn.set_flags(False)
    try:
        result = train(
            open_dataset(str(DATASET)),
            str(folder),
            config,
            hardware=hardware,
            callbacks=callbacks,
            checkpoint_seconds=checkpoint_seconds,
        )
    finally:
        torch.backends.mkldnn.set_flags(True)
    return Path(result.model_url)


def make_sxmnet() -> tuple[torch.nn.Module, ModelConfig]:
    """Return a pyramid network with attention and selection, and its config.

    The pyramid alone has two million weights, whatever the backbone. Those of large tensors repeat 251 values, so that
    the file is small once it is compressed.
    """
    config = ModelConfig(
        network="sxmnet",
        backbone=tiny_backbone.NAME,
        classes=("Gun", "Knife", "Wrench", "Pliers", "Scissors"),
        input=InputConfig(size_px=64, trim_margins=True),
        fusion="meta",
        attention=AttentionConfig(num_upsamples=1, sees_image=True),
    )
    torch.manual_seed(5)
    network = build_network(config).eval()
    values = torch.randn(251, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.numel() > 4096:
                fan_in = tensor[0].numel()
                repeated = values.repeat(tensor.numel() // len(values) + 1)[: tensor.numel()]
                tensor.copy_(repeated.view_as(tensor) * (2 / fan_in) ** 0.5)
            elif name.startswith("classifiers") and tensor.dim() > 1:
                tensor.mul_(10)
    return network, config


def score(model: Path, output: Path, *words: object) -> int:
    """Score the dataset, one image of which is damaged."""
    with on_cpu(), in_memory(DATASET, damaged_key=DAMAGED_KEY) as dataset:
        way = ["--engine=eager", "--dtype=float32", "--batch-size=16", "--max-quarantine-fraction=0.1"]
        return run("score", "--model", model, "--input", dataset, "--output", output, *way, *words)


def evaluate(predictions: Path, output: Path) -> int:
    """Write the report of the test split."""
    words = ["--split=test", "--bootstrap-rounds=200", "--format=markdown"]
    subset = f"10={CORPUS / 'ImageSet/10/test.csv'}"
    inputs = ["--predictions", predictions, "--data", DATASET, "--subset", subset]
    return run("evaluate", *inputs, "--output", output, *words)


def list_alarms(predictions: Path, output: Path) -> int:
    """List the alarms at thresholds on scores."""
    thresholds = "Gun=0.33,Knife=0.38,Scissors=0.35"
    inputs = ["--predictions", predictions, "--data", DATASET, "--threshold", thresholds]
    return run("alarms", *inputs, "--output", output)


def label_levels(predictions: Path, output: Path) -> int:
    """Write which level each scan of the training split prefers."""
    return run("label-levels", "--predictions", predictions, "--data", DATASET, "--output", output)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all tables right in a folder, in the order of their names."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def table_document(data: bytes) -> dict[str, Any]:
    """Return all that a Parquet file says, as JSON values, but which release of the software wrote it."""
    table = pq.read_table(io.BytesIO(data))
    fields = [
        [field.name, str(field.type), field.nullable, _text(field.metadata)] for field in table.schema.remove_metadata()
    ]
    return {"schema": fields, "metadata": _text(table.schema.metadata), "rows": table.to_pylist()}


def written_by(data: bytes) -> str:
    """Return which software wrote a Parquet file."""
    return str(pq.read_metadata(io.BytesIO(data)).created_by)


def checksum(name: str, data: bytes) -> dict[str, str]:
    """Return the sha256 of a file, and for a table also of what it says."""
    found = {"sha256": hashlib.sha256(data).hexdigest()}
    if name.endswith(".parquet"):
        text = json.dumps(table_document(data), sort_keys=True)
        found["content_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return found


_LATER_OPTIONS = ("on_unknown_class", "strict_decode")
"""Options that a conversion of format 1 did not record."""


def manifest_document(data: bytes, *, with_table_checksums: bool) -> dict[str, Any]:
    """Return what dataset.json says, but for versions, and for the bytes of tables where others wrote them."""
    document: dict[str, Any] = json.loads(data)
    del document["versions"]
    document.pop("attestation", None)  # which the fixtures do not have
    for name in _LATER_OPTIONS:
        document["options"].pop(name, None)
    if not with_table_checksums:
        for shard in document["shards"]:
            del shard["samples_sha256"], shard["quarantine_sha256"]
        document.get("leakage", {}).pop("sha256", None)
    return document


def _text(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}
