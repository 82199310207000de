"""Read the real scans, and cache the features of composed ones: what a frozen backbone says of them.

Shapes: N real scans  M composed scans  L levels  D features  h w cells of a level  H W pixels  C colour
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from model.artifacts.onnx_network import INPUT_NAME, open_session
from model.networks.backbones import build_backbone
from model.networks.weights import pretrained_normalisation
from shards import storage
from shards.curation.bags import name_bags
from shards.format.classes import PRESENT
from shards.format.dataset import open_dataset
from shards.images.decode import decode_image
from tests.bench.experiment.compositions import CLASSES, NO_ITEM, Compositions, Sources, multiply
from tests.bench.recipe_table import convert_corpus

BACKBONE = "tf_efficientnet_lite0"
SIDE_PX = 224
NUM_LEVELS = 3
HEAD = "head"
"""The name of the features behind the backbone's last 1x1 convolution, which are kept pooled alone."""
_BATCH = 16
_NAMES = (*(f"level-{level}" for level in range(1, NUM_LEVELS + 1)), HEAD)


def read_sources(corpus: Path, work: Path) -> tuple[Sources, npt.NDArray[np.uint8]]:
    """Return the listed scans of a corpus in the SIXray layout and their pixels (N, H, W, C), squashed to a square."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "dataset/dataset.json").exists():
        convert_corpus(work, corpus, work / "dataset", sorted(corpus.glob("ImageSet/*/*.csv")))
    dataset = open_dataset(str(work / "dataset"))
    table = dataset.read_samples()
    rows, images, bags, classes = table.to_pylist(), [], [], []
    urls = {f"{info.name}.tar": dataset.tar_url(info) for info in dataset.shards()}
    for row, bag in zip(rows, name_bags(table).to_pylist(), strict=True):
        labels = [row["labels"][name] for name in CLASSES]
        if None in labels or row["duplicate_of"] is not None:
            continue
        data = storage.read_range(urls[row["shard"]], row["offset_bytes"], row["size_bytes"])
        picture = decode_image(data, draft_px=SIDE_PX).convert("RGB")
        images.append(np.asarray(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)))
        bags.append(bag)
        classes.append(labels.index(PRESENT) if PRESENT in labels else NO_ITEM)
    return Sources(np.array(classes), np.unique(bags, return_inverse=True)[1]), np.stack(images)


class Features:
    """The cached features of all composed scans, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.maps: dict[str, Any] = {}
        self.pooled: dict[str, Any] = {}
        for name in _NAMES:
            self.pooled[name] = self._open(f"{name}-pooled")
            if name != HEAD:
                self.maps[name] = self._open(name)

    def _open(self, name: str) -> Any:
        return np.load(self._folder / f"{name}.npy", mmap_mode="r+")

    @classmethod
    def compute(cls, folder: Path, images_NHWC: npt.NDArray[np.uint8], plan: Compositions) -> "Features":
        """Return the features of a plan; a run that was stopped goes on where it was."""
        folder.mkdir(parents=True, exist_ok=True)
        num_scans, done_path = len(plan.class_M), folder / "done"
        network = _Backbone().eval()
        if not done_path.exists():
            with torch.inference_mode():
                outputs = network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
            for name, (map_1Dhw, pooled_1D) in zip(_NAMES, outputs, strict=True):
                _create(folder / f"{name}-pooled.npy", np.float32, (num_scans, pooled_1D.shape[1]))
                if name != HEAD:
                    depth, height, width = map_1Dhw.shape[1:]
                    _create(folder / f"{name}.npy", np.float16, (num_scans, height, width, depth))
            done_path.write_text("0")
        found, done = cls(folder), int(done_path.read_text())
        session = _open_network(network) if done < num_scans else None
        mean, std = (np.array(values, np.float32) for values in pretrained_normalisation(BACKBONE))
        while done < num_scans:
            rows = np.arange(done, min(done + _BATCH, num_scans))
            images_BHWC = (multiply(images_NHWC, plan, rows) / 255 - mean) / std
            padded = np.zeros((_BATCH, 3, SIDE_PX, SIDE_PX), np.float32)
            padded[: len(rows)] = images_BHWC.transpose(0, 3, 1, 2)
            arrays = session.run(None, {INPUT_NAME: padded})  # type: ignore[union-attr]
            for number, name in enumerate(_NAMES):
                found.pooled[name][rows] = arrays[2 * number + 1][: len(rows)]
                if name != HEAD:
                    found.maps[name][rows] = arrays[2 * number][: len(rows)].transpose(0, 2, 3, 1)
            done = int(rows[-1]) + 1
            if done % (100 * _BATCH) == 0 or done == num_scans:
                done_path.write_text(str(done))
                print(f"features of {done:,} of {num_scans:,} scans", file=sys.stderr, flush=True)
        return found

    def batch(self, names: tuple[str, ...], rows: npt.NDArray[np.int64], is_pooled: bool) -> list[Tensor]:
        """Return the features of scans, finest level first: (B, D, h, w) float32, one cell each where pooled."""
        if is_pooled:
            return [torch.from_numpy(self.pooled[name][rows])[:, :, None, None] for name in names]
        # Channels are last in memory, as convolutions want them.
        return [torch.from_numpy(self.maps[name][rows]).permute(0, 3, 1, 2).float() for name in names]


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.headed = build_backbone(BACKBONE, NUM_LEVELS, complete_levels=True, pretrained=True)

    def forward(self, images_BCHW: Tensor) -> list[tuple[Tensor, Tensor]]:
        maps = self.headed.body(images_BCHW)  # type: ignore[operator]
        head = self.headed.norm_head(self.headed.conv_head(maps[-1]))  # type: ignore[operator]
        return [(of_level, of_level.mean(dim=(2, 3))) for of_level in (*maps, head)]


def _open_network(network: nn.Module) -> Any:
    example = torch.zeros(_BATCH, 3, SIDE_PX, SIDE_PX)
    exported = torch.onnx.export(network, (example,), dynamo=True, input_names=[INPUT_NAME], verbose=False)
    assert exported is not None
    return open_session(exported.model_proto.SerializeToString(), torch.get_num_threads())


def _create(path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
