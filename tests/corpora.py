"""Write tiny corpora in the layout of the SIXray release; read back the datasets made of them."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shards.format.parquet import parquet_bytes, read_parquet

SCORED = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
HEADER = ",".join(["name", *SCORED])
NOTHING: tuple[str, ...] = ()

BoxTuple = tuple[str, float, float, float, float]
"""Spelling, xmin, ymin, xmax, ymax."""


def jpeg_bytes(seed: int = 0, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    """Return a JPEG of noise: another seed, other bytes. `options` go to Pillow, e.g. `progressive=True`."""
    pixels = np.random.default_rng(seed).integers(0, 256, (max(1, size[1] // 8), max(1, size[0] // 8), 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize(size).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def png_bytes(seed: int = 0, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    """Return a PNG of noise: another seed, other bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257 if mode == "I;16" else pixels[:, :, :3])
    out = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(out, "PNG")
    return out.getvalue()


def bmp_bytes(seed: int = 0) -> bytes:
    """Return a BMP of noise: a format that no dataset holds."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png_bytes(seed))).save(out, "BMP")
    return out.getvalue()


def voc_xml(boxes: Sequence[BoxTuple] = ()) -> bytes:
    """Return an annotation in the release's form: tabs, an owner with a name, an annotation inside the source."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{xmin}</xmin>\n"
        f"\t\t\t<ymin>{ymin}</ymin>\n\t\t\t<xmax>{xmax}</xmax>\n\t\t\t<ymax>{ymax}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for name, xmin, ymin, xmax, ymax in boxes
    )
    return (
        "<annotation>\n\t<source>\n\t\t<annotation>The X_ray Database</annotation>\n\t</source>\n"
        f"\t<owner>\n\t\t<name>MeioJane</name>\n\t</owner>\n{objects}</annotation>\n"
    ).encode()


def list_row(name: str, present: Sequence[str] = (), doubtful: Sequence[str] = ()) -> str:
    """Return one line of a list: 1 for classes that are present, 0 for doubtful ones, -1 for the rest."""
    labels = ("1" if item in present else "0" if item in doubtful else "-1" for item in SCORED)
    return ",".join([name, *labels])


def pack_release(corpus: "CorpusWriter", root: Path, *, num_parts: int = 3, compress: bool = True) -> Path:
    """Write a corpus as the release's archives: a split tar of the images, zips of annotations and lists."""
    root.mkdir(parents=True, exist_ok=True)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if compress else "w") as tar:
        tar.add(corpus.images, "JPEGImage")
    data, end = out.getvalue(), "gz" if compress else ""
    step = -(-len(data) // num_parts)
    for number in range(num_parts):
        name = f"JPEGImage.tar{'.' if end else ''}{end}{number:02d}"
        (root / name).write_bytes(data[number * step : (number + 1) * step])
    for folder in ("Annotation", "ImageSet"):
        with zipfile.ZipFile(root / f"{folder}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((corpus.root / folder).rglob("*")):
                archive.write(path, path.relative_to(corpus.root))
    return root


class CorpusWriter:
    """Writes the files of a corpus below `root`; each call adds one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "JPEGImage"
        self.images.mkdir(parents=True, exist_ok=True)
        self.rows: dict[tuple[str, str], list[str]] = {}

    def add_image(self, stem: str, data: bytes | None = None, *, folder: str = "", suffix: str = ".jpg") -> Path:
        """Add an image, by default a JPEG unique to its stem."""
        path = self.images / folder / f"{stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(stem.encode("utf-8", "surrogateescape")).digest()[:4], "big")
        path.write_bytes(jpeg_bytes(seed) if data is None else data)
        return path

    def add_annotation(self, stem: str, boxes: Sequence[BoxTuple] = (), *, text: bytes | None = None) -> Path:
        """Add an annotation of some boxes, or of any text."""
        path = self.root / "Annotation" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(voc_xml(boxes) if text is None else text)
        return path

    def add_row(self, name: str, present: Sequence[str] = (), *, split: str = "train", subset: str = "10") -> None:
        """Add a line to a list."""
        self.add_line(list_row(name, present), split=split, subset=subset)

    def add_line(self, line: str, *, split: str = "train", subset: str = "10") -> None:
        """Add any line to a list; creates both lists of the subset."""
        for either in ("train", "test"):
            self.rows.setdefault((subset, either), [])
        self.rows[subset, split].append(line)
        for (subset, split), lines in self.rows.items():
            path = self.root / "ImageSet" / subset / f"{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([HEADER, *lines, ""]), newline="")

    def add_scan(self, stem: str, present: Sequence[str] = (), *, split: str = "train", subset: str = "10") -> None:
        """Add a valid scan: an image, its line and, if positive, its boxes."""
        self.add_image(stem)
        self.add_row(stem, present, split=split, subset=subset)
        if present:
            self.add_annotation(stem, [(name, 1.5, 2, 20.125, 25) for name in present])


def make_corpus(root: Path, *, num_train: int = 24, num_test: int = 6) -> CorpusWriter:
    """Write a valid corpus; every third scan of a split is positive."""
    corpus = CorpusWriter(root)
    for split, count, first in (("train", num_train, 0), ("test", num_test, num_train)):
        for number in range(first, first + count):
            present = (SCORED[number % len(SCORED)],) if number % 3 == 0 else NOTHING
            corpus.add_scan(f"{'P' if present else 'N'}{number:05d}", present, split=split)
    return corpus


def files_of(root: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path there."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def payload_of(dataset: Path) -> dict[str, bytes]:
    """Return the files of a dataset but for `dataset.json`, which names the folder of the corpus."""
    return {name: data for name, data in files_of(dataset).items() if name != "dataset.json"}


def members_of(dataset: Path) -> dict[str, bytes]:
    """Return every member of every tar by its name, read by Python's own tarfile."""
    found: dict[str, bytes] = {}
    for path in sorted(dataset.glob("*/*.tar")):
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                assert member.name not in found, member.name
                handle = tar.extractfile(member)
                assert handle is not None
                found[member.name] = handle.read()
    return found


def images_of(dataset: Path) -> dict[str, bytes]:
    """Return the image of every key."""
    return {name[:-4]: data for name, data in members_of(dataset).items() if name.endswith(".jpg")}


def rows_of(dataset: Path, table: str = "samples") -> list[dict[str, Any]]:
    """Return the rows of all files of a table, by shard."""
    rows: list[dict[str, Any]] = []
    for path in sorted((dataset / table).glob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    return rows


def reasons_of(dataset: Path) -> dict[str, str]:
    """Return the reason of every refused key; several reasons are joined by a plus."""
    reasons: dict[str, list[str]] = {}
    for row in rows_of(dataset, "quarantine"):
        reasons.setdefault(row["key"], []).append(row["reason"])
    return {key: "+".join(sorted(found)) for key, found in reasons.items()}


def flip_byte(path: Path, at: int | None = None) -> None:
    """Flip all bits of one byte of a file, by default the middle one."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0xFF
    path.write_bytes(data)


def rewrite_rows(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Rewrite a table with changed rows; the file itself stays valid."""
    table = read_parquet(str(path))
    rows = table.to_pylist()
    change(rows)
    path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=table.schema)))


def stamps_of(root: Path) -> Mapping[str, tuple[int, int]]:
    """Return inode and modification time of every file, to show that a run rewrites nothing."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def prefixes(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Yield every proper prefix of some bytes, or one in `step`."""
    for length in range(0, len(data), step):
        yield data[:length]
