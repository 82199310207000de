"""Make projected scans: list them beside the scans of a dataset, and read them as samples."""

import hashlib
import marshal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shards.corpus.read_scan import Scan
from shards.format.classes import BOX_EDGES, Box, ClassSet
from shards.format.dataset import Dataset
from shards.format.keys import shorten_key
from shards.format.manifest import ShardInfo
from shards.images.cutouts import Extent, find_white, fits_scanner
from shards.images.decode import decode_image
from shards.images.projection import Projection, project
from shards.images.transcode import encode_like
from shards.writing.dataset_samples import SampleRef, Selection, list_samples, quarantine_row
from shards.writing.dataset_source import SampleSource
from shards.writing.donors import OTHER_OBJECT, Donor, DonorPool, cut_donor, name_bag, seeded

_PROJECTIONS_INPUT = 1
"""If a scan has the key of a projection, the scan wins."""


def list_projections(
    dataset: Dataset, info: ShardInfo, selection: Selection, pool: DonorPool, *, per_scan: int, seed: int
) -> Iterator[SampleRef]:
    """Yield the samples and refused records of a shard, and the projections of each scan that is no other's copy.

    A projection is a record with the place of its scan, whose row has its `donors`. In a split with projections every
    scan has a group, its projections the same one.
    """
    for ref in list_samples(dataset, 0, info, selection):
        if ref.reason or ref.split not in pool.donors:
            yield ref
            continue
        row = ref.row
        bag = name_bag(row)
        is_copy = row["duplicate_of"] is not None
        row |= {"group": bag, "duplicate_of": None}
        yield ref._replace(packed_row=marshal.dumps(row))
        for number in range(1, per_scan + 1) if not is_copy else ():
            key = shorten_key(f"{ref.key}+p{number}")
            donors = [tuple(donor) for donor in pool.draw(ref.split, key, bag, seed)]
            more = {"key": key, "scan": ref.key, "seed": seed, "donors": donors}
            yield ref._replace(key=key, input_index=_PROJECTIONS_INPUT, shard="", packed_row=marshal.dumps(row | more))


@dataclass(frozen=True, slots=True)
class ProjectionSource:
    """Reads the samples of a dataset and makes its projections, for `shards.writing.shard_writer.write_shard`."""

    samples: SampleSource

    @property
    def classes(self) -> ClassSet:
        """The fields of the samples' labels."""
        return self.samples.classes

    @property
    def metadata(self) -> Mapping[str, str]:
        """The fields of the samples' metadata and their types."""
        return self.samples.metadata

    @property
    def added(self) -> tuple[str, ...]:
        """Columns of the samples that only some datasets have."""
        return self.samples.added

    def read(self, refs: Sequence[SampleRef]) -> list[Scan | dict[str, Any]]:
        """Return the sample of each record, or its quarantine row."""
        found = self.samples.read(refs)
        return [
            project_sample(ref, scan) if isinstance(scan, Scan) and "donors" in scan.row else scan
            for ref, scan in zip(refs, found, strict=True)
        ]

    def digest_plan(self, name: str, refs: Sequence[SampleRef]) -> str:
        """Return a digest of the rows and of the donors of projections."""
        return self.samples.digest_plan(name, refs)

    def is_settled(self, table: pa.Table, refs: Sequence[SampleRef], _began: float) -> bool:
        """Return whether each scan is present with the checksum of its row; a projection follows from its plan."""
        present = set(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        rows = [ref.row for ref in refs if not ref.reason]
        return present >= {(row["key"], row["sha256"]) for row in rows if "donors" not in row}


def project_sample(ref: SampleRef, scan: Scan) -> Scan | dict[str, Any]:
    """Return a scan with an object of the first of its donors that finds a place, or its quarantine row."""
    row = dict(scan.row)
    scan_key, seed = row.pop("scan"), row.pop("seed")
    donors = [Donor(*values) for values in row.pop("donors")]
    try:
        pixels = np.asarray(decode_image(scan.image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        return quarantine_row(ref, "project", "undecodable_image", f"{type(error).__name__}: {error}", row["sha256"])
    white = find_white(pixels)
    taken = [_extent_of(box) for box in row["boxes"]]
    for donor in sorted(donors, key=lambda donor: not fits_scanner(donor.white, white)):
        cutout = cut_donor(donor)
        found = None if cutout is None else project(pixels, white, cutout, seeded(f"{seed} place {ref.key}"), taken)
        if found is not None:
            return _make_sample(row, bytes(scan.image), scan_key, donor, found)
    detail = f"none of {len(donors)} objects fits into a bag of {scan_key}"
    return quarantine_row(ref, "project", "no_place", detail, row["sha256"])


def _make_sample(row: dict[str, Any], image: bytes, scan_key: str, donor: Donor, found: Projection) -> Scan:
    name = None if donor.class_name == OTHER_OBJECT else donor.class_name
    edges = dict(zip(BOX_EDGES, found.extent, strict=True))
    occlusion = float(np.float32(found.occlusion))
    row["projected_from"] = {"scan": scan_key, "item": donor.key, "class": name, **edges, "occlusion": occlusion}
    if name is not None:
        row["labels"] = row["labels"] | {name: 1}
        row["boxes"] = [*row["boxes"], Box(name, *map(float, found.extent)).to_row()]
    encoded = encode_like(found.pixels_HWC, image)
    row["sha256"] = hashlib.sha256(encoded).hexdigest()
    return Scan(row, encoded)


def _extent_of(box: Mapping[str, Any]) -> Extent:
    left, top = (int(box[name]) for name in ("xmin_px", "ymin_px"))
    return Extent(max(0, left), max(0, top), int(box["xmax_px"]) + 1, int(box["ymax_px"]) + 1)
