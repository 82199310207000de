"""Read and write the parts of predictions, one Parquet file per shard."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.format.manifest import ShardInfo
from shards.format.parquet import IMAGE_FIELD, read_parquet, write_parquet

FORMAT_VERSION = 1
METADATA_KEY = b"sixray"
"""Key of the `PartInfo` in the Parquet metadata, which is read without the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The card that scored a part, and what its digits may depend on beside dtype and batch size."""

    name: str
    hw_decoder_load: float
    """Share of the JPEG bytes that go to the card's JPEG engines, the rest to CUDA kernels."""
    fancy_upsampling: bool
    """Whether chroma is interpolated, as on a processor."""
    tf32: bool
    """Whether float32 convolutions are computed in TF32."""
    cuda_graph: bool
    requested_batch_size: int
    """Above the engine's batch size where memory did not hold it."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How the scores of a part were computed."""

    decoder: str
    """`dali-cpu` or `dali-mixed` (nvJPEG)."""
    device: str
    """`cpu` or `cuda`."""
    dtype: str
    """Of the activations; logits are always float32."""
    batch_size: int
    engine: str = "eager"
    """`eager`, `compiled` or `onnxruntime`; parts without this field are eager."""
    gpu: Gpu | None = None
    """None on a processor; not written then."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        document = asdict(self)
        return document if self.gpu is not None else {name: document[name] for name in document if name != "gpu"}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Engine":
        """Return an engine from its JSON form; TypeError if that has other fields."""
        gpu = document.get("gpu")
        return cls(**(dict(document) | {"gpu": None if gpu is None else Gpu(**gpu)}))


@dataclass(frozen=True, slots=True)
class PartBoxes:
    """The boxes in the scans of a part, which are in a file of their own, see `shards.predictions.detections`."""

    share: float
    """Of the peak of a class' map, which its boxes reach."""
    num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInfo:
    """The metadata of a part, which tells whether its shard must be scored again."""

    model_id: str
    shard: str
    """`train-00007-of-00042`."""
    shard_digest: str
    """Digest of the scored shard in the dataset's manifest."""
    split: str
    num_scored: int
    num_quarantined: int
    quarantined_by_reason: dict[str, int]
    engine: Engine
    boxes: PartBoxes | None = None
    """None where the model was not asked for boxes, or they were imported; not written then."""

    @property
    def num_scans(self) -> int:
        """Samples of the shard."""
        return self.num_scored + self.num_quarantined

    def is_of(self, shard: ShardInfo, model_id: str) -> bool:
        """Return whether the part is of this version of the shard and this model."""
        expected = (model_id, shard.digest, shard.num_scans)
        return (self.model_id, self.shard_digest, self.num_scans) == expected

    def has_boxes(self, share: float | None) -> bool:
        """Return whether the part has the boxes that are asked for; None asks for none."""
        return share is None or (self.boxes is not None and self.boxes.share == share)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        document = asdict(self) | {"engine": self.engine.to_json()}
        return document if self.boxes is not None else {name: document[name] for name in document if name != "boxes"}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "PartInfo":
        """Return the info of a JSON form; TypeError or KeyError if that has other fields."""
        boxes = document.get("boxes")
        parsed = {"engine": Engine.from_json(document["engine"]), "boxes": boxes and PartBoxes(**boxes)}
        return cls(**(dict(document) | parsed))


def part_url(predictions_url: str, shard_name: str) -> str:
    """Return the URL of the predictions of a shard."""
    return storage.join_url(predictions_url, f"{shard_name}.parquet")


def quarantine_part_url(predictions_url: str, shard_name: str) -> str:
    """Return the URL of the quarantined samples of a shard."""
    return storage.join_url(predictions_url, "quarantine", f"{shard_name}.parquet")


def write_part(predictions_url: str, table: pa.Table, quarantine: pa.Table, info: PartInfo) -> None:
    """Write the predictions of one shard; equal arguments give equal bytes.

    An older part is removed first and the new one is written last, after its quarantine (which is removed if it is no
    longer needed), so that an existing part always has its own quarantine, even if the writer was killed.

    Args:
        predictions_url: PREDICTIONS/<model-id>.
        table: of `predictions_schema`, and optionally `IMAGE_FIELD`.
        quarantine: of `QUARANTINE_SCHEMA`.
        info: stored in the part; its counts must match both tables.
    """
    assert (table.num_rows, quarantine.num_rows) == (info.num_scored, info.num_quarantined)
    storage.remove(part_url(predictions_url, info.shard))
    quarantine_url = quarantine_part_url(predictions_url, info.shard)
    if quarantine.num_rows:
        write_parquet(quarantine_url, quarantine)
    else:
        storage.remove(quarantine_url)
    text = json.dumps({"format": FORMAT_VERSION} | info.to_json(), sort_keys=True)
    write_parquet(part_url(predictions_url, info.shard), table.replace_schema_metadata({METADATA_KEY: text}))


def read_part(predictions_url: str, shard_name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a part, or some of its columns; `image` is null if the part was written without it.

    Raises:
        FileNotFoundError: there is no such part.
        ValueError: it is damaged.
    """
    url = part_url(predictions_url, shard_name)
    if columns is None or IMAGE_FIELD.name not in columns:
        return read_parquet(url, columns)
    with storage.open_reader(url) as handle:
        has_image = IMAGE_FIELD.name in pq.read_schema(handle).names
    if has_image:
        return read_parquet(url, columns)
    table = read_parquet(url, [name for name in columns if name != IMAGE_FIELD.name])
    return table.append_column(IMAGE_FIELD, pa.nulls(len(table), IMAGE_FIELD.type))


def read_part_info(predictions_url: str, shard_name: str) -> PartInfo | None:
    """Return the metadata of a part; None if the part is missing or damaged."""
    try:
        with storage.open_reader(part_url(predictions_url, shard_name)) as handle:
            metadata = pq.read_schema(handle).metadata or {}
        document = json.loads(metadata.get(METADATA_KEY, b"{}"))
        if document.pop("format", None) != FORMAT_VERSION:
            return None
        return PartInfo.from_json(document)
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError, json.JSONDecodeError, TypeError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # currently unreadable, not damaged
            raise
        return None


def read_part_infos(predictions_url: str, shard_names: Iterable[str]) -> dict[str, PartInfo | None]:
    """Return `read_part_info` of many shards, read concurrently."""
    names = list(shard_names)
    with ThreadPoolExecutor(16, thread_name_prefix="read-part-info") as pool:
        found = pool.map(lambda name: read_part_info(predictions_url, name), names)
        return dict(zip(names, found, strict=True))
