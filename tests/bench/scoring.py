"""Shared parts of the scoring benchmarks: scans, models, single stages, and the DataLoader loop.

Imports neither Beam nor `pipelines`: it runs where only the scorer is installed.
"""

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from model.artifacts.saved_model import LoadedModel, load_model, save_model
from model.hardware import Hardware
from model.inputs.decoder import BatchDecoder
from model.networks.config import InputConfig, ModelConfig
from model.networks.registry import build_network
from model.scoring.scorer import Scorer, ShardFiles, ShardScores
from model.scoring.scoring_network import ScoringNetwork
from shards.format.dataset import Dataset as Shards
from shards.format.shard_reader import read_rows, read_scans
from tests.shards.by_hand import bogus_huffman, write_dataset

CLASSES = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
NUM_CORPUS = 1_059_231
"""Number of scans in SIXray."""


def make_scans(num: int, seed: int = 0) -> list[bytes]:
    """Return JPEGs like the release's: 8-bit 4:2:0 at quality 75, about 700 x 500 pixels and 90 kB."""
    rng = np.random.default_rng(seed)
    return [_make_scan(rng) for _ in range(num)]


def _make_scan(rng: np.random.Generator) -> bytes:
    width, height = int(rng.integers(560, 860)), int(rng.integers(420, 640))
    pixels = np.full((height, width, 3), 245.0, np.float32)
    for _ in range(40):
        x, y = int(rng.integers(0, width - 60)), int(rng.integers(0, height - 60))
        shape = (slice(y, y + int(rng.integers(20, 200))), slice(x, x + int(rng.integers(20, 260))))
        pixels[shape] *= rng.uniform(0.5, 1, 3).astype(np.float32)
    pixels += rng.normal(0, 14, pixels.shape).astype(np.float32)  # detector noise: most of a real scan's bytes
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=75)
    return out.getvalue()


def make_shards(root: Path, images: Sequence[bytes], num_scans: int, num_shards: int, one_bad_in: int = 0) -> Shards:
    """Write a dataset of `num_scans` from cycled images; one in `one_bad_in` fails only in the decoder."""
    shards: dict[str, list[tuple[str, bytes]]] = {}
    for number in range(num_scans):
        image = images[number % len(images)]
        if one_bad_in and number % one_bad_in == one_bad_in // 2:
            image = bogus_huffman(image)
        shards.setdefault(f"test-{number % num_shards:05d}-of-{num_shards:05d}", []).append((f"N{number:07d}", image))
    return write_dataset(root, shards)


def make_model(folder: Path, backbone: str, image_size_px: int = 224) -> LoadedModel:
    """Write and load CHR with random weights, which take as long as trained ones."""
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, classes=CLASSES, input=InputConfig(size_px=image_size_px))
    save_model(str(folder), build_network(config), config)
    return load_model(str(folder))


def score_all(scorer: Scorer, shards: Shards) -> int:
    """Score every shard end to end, as a worker does; return the number of scored scans."""
    found = list(scorer.score_shards(ShardFiles.of(shards, shard) for shard in shards.shards()))
    return sum(scores.predictions.num_rows for scores in found if isinstance(scores, ShardScores))


def decode_all(decoder: BatchDecoder, shards: Shards, batch_size: int) -> None:
    """Read, check and decode every scan."""
    for shard in shards.shards():
        rows = read_rows(shards.samples_url(shard), shard.num_scans)
        for scans in read_scans(shards.tar_url(shard), rows, batch_size):
            decoder.decode([scan.image for scan in scans])


def forward_seconds(network: ScoringNetwork, batch_size: int, num_batches: int) -> float:
    """Return the seconds per scan of the network alone, peaks included."""
    size = network.config.input.size_px
    images_BCHW = torch.randn(batch_size, 3, size, size, device=network.hardware.device)
    if network.spec.engine != "onnxruntime":
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    sizes_px_B2 = np.full((batch_size, 2), 700)
    before = network.start(images_BCHW, sizes_px_B2)
    before.result()
    started = time.perf_counter()
    for _ in range(num_batches):
        batch = network.start(images_BCHW, sizes_px_B2)
        before.result()  # one behind, as the scorer
        before = batch
    before.result()
    return (time.perf_counter() - started) / (batch_size * num_batches)


class PillowScans(Dataset[Tensor]):
    """The baseline's dataset: JPEGs decoded, resized and normalised by Pillow and torch."""

    def __init__(self, images: Sequence[bytes], num_scans: int, config: ModelConfig) -> None:
        self.images, self.num_scans, self.config = images, num_scans, config

    def __len__(self) -> int:
        return self.num_scans

    def __getitem__(self, number: int) -> Tensor:
        side = self.config.input.size_px
        with Image.open(io.BytesIO(self.images[number % len(self.images)])) as image:
            pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        image_CHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.config.input.mean), torch.tensor(self.config.input.std)
        return (image_CHW - mean[:, None, None]) / std[:, None, None]


def rival(
    images: Sequence[bytes],
    num_scans: int,
    model: LoadedModel,
    hardware: Hardware,
    batch_size: int,
    dtype: str = "float32",
) -> None:
    """Score with a plain loop: a DataLoader worker per core, Pillow, eager PyTorch; no checks, nothing stored."""
    scans = PillowScans(images, num_scans, model.config)
    loader = DataLoader(scans, batch_size, num_workers=hardware.num_cores, pin_memory=hardware.device == "cuda")
    network: nn.Module = model.network.eval().to(hardware.device)
    is_half = dtype == "bfloat16"
    with torch.inference_mode(), torch.autocast(hardware.device, torch.bfloat16, enabled=is_half):
        for images_BCHW in loader:
            network(images_BCHW.to(hardware.device, non_blocking=True)).logits_BK.cpu()


def rate_of(run: Callable[[], object], num_scans: int) -> float:
    """Return scans per second of one run."""
    started = time.perf_counter()
    run()
    return num_scans / (time.perf_counter() - started)


def hours(scans_per_second: float) -> float:
    """Return how long the whole corpus takes."""
    return NUM_CORPUS / scans_per_second / 3600


def rss_mb() -> float:
    """Return the resident memory of this process in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
