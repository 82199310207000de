"""Load the samples of a split as arrays, with the place of each image in its shard, and hold a part out.

Shapes: N samples  K classes  B rows asked for  X boxes of all samples  M boxes of some
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.curation.bags import name_bags
from shards.format.classes import BOX_EDGES, UNKNOWN
from shards.format.dataset import Dataset

_COLUMNS = [
    "key",
    "shard",
    "offset_bytes",
    "size_bytes",
    "width_px",
    "height_px",
    "labels",
    "boxes",
    "duplicate_of",
    "group",
]


@dataclass(frozen=True, slots=True)
class SampleTable:
    """Labels, boxes and image locations of the rows of a split."""

    keys: pa.Array
    """string; in Arrow, which takes a tenth of the memory of Python strings."""
    groups: pa.Array
    """string: the bag of each scan, see `shards.curation.bags`; a bag is held out as a whole."""
    shard_urls: tuple[str, ...]
    shards_N: np.ndarray
    """int32, into `shard_urls`."""
    offsets_bytes_N: np.ndarray
    sizes_bytes_N: np.ndarray
    widths_px_N: np.ndarray
    heights_px_N: np.ndarray
    labels_NK: np.ndarray
    """int8: 1 present, 0 absent, -1 unknown."""
    classes: tuple[str, ...]
    boxes_X4: np.ndarray
    """float32: left, top, right and bottom of every box, as fractions of its scan; also of classes that are not scored:
    the attention mask is trained on "each annotated bounding box" (SXMNet, Section 3.2)."""
    box_classes_X: np.ndarray
    """int16: the number of each box's class in `classes`; -1: another class."""
    first_boxes_N: np.ndarray
    """int64, into `boxes_X4`."""
    num_boxes_N: np.ndarray
    """int64."""
    levels_N: np.ndarray
    """int8: the label of the level for Meta Fusion, from 1 (finest); 0: unknown; see `model.training.level_labels`."""

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: np.ndarray) -> "SampleTable":
        """Return the given rows, in their order."""
        return replace(
            self,
            keys=self.keys.take(pa.array(rows)),
            groups=self.groups.take(pa.array(rows)),
            shards_N=self.shards_N[rows],
            offsets_bytes_N=self.offsets_bytes_N[rows],
            sizes_bytes_N=self.sizes_bytes_N[rows],
            widths_px_N=self.widths_px_N[rows],
            heights_px_N=self.heights_px_N[rows],
            labels_NK=self.labels_NK[rows],
            first_boxes_N=self.first_boxes_N[rows],
            num_boxes_N=self.num_boxes_N[rows],
            levels_N=self.levels_N[rows],
        )

    def with_levels(self, levels_N: np.ndarray) -> "SampleTable":
        """Return the same rows with labels of levels for Meta Fusion."""
        assert len(levels_N) == len(self)
        return replace(self, levels_N=levels_N.astype(np.int8))

    def boxes_of(self, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the boxes of some rows (M, 4), the place of each box's row among them, and its class, int64 (M,)."""
        num_B = self.num_boxes_N[rows_B]
        places_M = np.repeat(np.arange(len(rows_B)), num_B)
        number_M = np.arange(len(places_M)) - np.repeat(np.cumsum(num_B) - num_B, num_B)  # of its scan's boxes
        boxes_M = self.first_boxes_N[rows_B][places_M] + number_M
        return self.boxes_X4[boxes_M], places_M, self.box_classes_X[boxes_M].astype(np.int64)

    def read_image(self, row: int) -> bytes:
        """Return the encoded image of a row; ValueError if its shard is too short."""
        url = self.shard_urls[self.shards_N[row]]
        size = int(self.sizes_bytes_N[row])
        data = storage.read_range(url, int(self.offsets_bytes_N[row]), size)
        if len(data) != size:
            raise ValueError(
                f"image must have {size} bytes, got {len(data)} ({self.describe(row)}); "
                f"run `sixray verify` on the dataset"
            )
        return data

    def describe(self, row: int) -> str:
        """Return `sample 'P00042', shard '…/train-00007-of-00042.tar'`, for messages."""
        return f"sample {self.keys[row].as_py()!r}, shard {self.shard_urls[self.shards_N[row]]!r}"


def load_sample_table(dataset: Dataset, split: str) -> SampleTable:
    """Return all rows of a split, in shard and tar order, with the labels of the scored classes."""
    table = dataset.read_samples(split, columns=_COLUMNS).combine_chunks()
    shards = dataset.shards(split)
    number_of = {f"{shard.name}.tar": number for number, shard in enumerate(shards)}
    names = table["shard"].dictionary_encode().combine_chunks()
    numbers = np.array([number_of[name] for name in names.dictionary.to_pylist()], dtype=np.int32)
    keys = table["key"].combine_chunks()
    boxes_X4, box_classes_X, num_boxes_N = _boxes(table, dataset.manifest.scored_classes)
    return SampleTable(
        keys=keys,
        groups=name_bags(table),
        shard_urls=tuple(dataset.tar_url(shard) for shard in shards),
        shards_N=numbers[names.indices.to_numpy(zero_copy_only=False)],
        offsets_bytes_N=table["offset_bytes"].to_numpy(),
        sizes_bytes_N=table["size_bytes"].to_numpy(),
        widths_px_N=table["width_px"].to_numpy(),
        heights_px_N=table["height_px"].to_numpy(),
        labels_NK=_labels(table["labels"].combine_chunks(), dataset.manifest.scored_classes),
        classes=dataset.manifest.scored_classes,
        boxes_X4=boxes_X4,
        box_classes_X=box_classes_X,
        first_boxes_N=np.cumsum(num_boxes_N) - num_boxes_N,
        num_boxes_N=num_boxes_N,
        levels_N=np.zeros(len(keys), np.int8),
    )


def _boxes(table: pa.Table, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = table["boxes"].combine_chunks()
    parents, struct = pc.list_parent_indices(boxes).to_numpy(zero_copy_only=False), boxes.flatten()
    sizes_X2 = np.stack([table[name].to_numpy()[parents] for name in ("width_px", "height_px")], axis=1)
    edges_X4 = np.stack([struct.field(name).to_numpy(False) for name in BOX_EDGES], axis=1)
    numbers_X = pc.fill_null(pc.index_in(struct.field("class"), pa.array(classes)), -1).to_numpy().astype(np.int16)
    edges_X4 = (edges_X4 / np.tile(sizes_X2, 2)).astype(np.float32)
    return edges_X4, numbers_X, np.bincount(parents, minlength=len(boxes))


def _labels(labels: pa.StructArray, classes: tuple[str, ...]) -> np.ndarray:
    columns = [labels.field(name).fill_null(UNKNOWN).to_numpy(zero_copy_only=False) for name in classes]
    return np.stack(columns, axis=1)


def hold_out(samples: SampleTable, fraction: float, seed: int) -> tuple[SampleTable, SampleTable]:
    """Return (rows to train on, rows held out), the second about `fraction` of all.

    A keyed hash of its group decides for each scan, so it stays on its side when scans are added, and scans of one
    bag, or with equal bytes, are always on the same side.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"validation_fraction must be in [0, 1), got {fraction}")
    salt = f"hold-out:{seed}".encode()
    held_N = np.fromiter((_unit_hash(group, salt) < fraction for group in samples.groups.to_pylist()), dtype=bool)
    return samples.take(np.flatnonzero(~held_N)), samples.take(np.flatnonzero(held_N))


def _unit_hash(text: str, salt: bytes) -> float:
    digest = hashlib.blake2b(text.encode(), key=salt, digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
