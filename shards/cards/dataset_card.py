"""Write the card of a dataset: what it holds, where it is from, how to read it, what was refused and what is odd."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from shards import storage
from shards.cards.card_file import format_table, make_card
from shards.curation.findings import describe_findings, describe_mixed_formats, is_generated
from shards.format.dataset import Dataset
from shards.format.parquet import read_parquet

SIZES = {"n<1K": 1_000, "1K<n<10K": 10_000, "10K<n<100K": 100_000, "100K<n<1M": 1_000_000, "1M<n<10M": 10_000_000}
"""The hub's categories of size, and the number of scans that each lies below."""
_LARGEST = "10M<n<100M"


def dataset_card(dataset: Dataset, name: str, license_id: str | None) -> bytes:
    """Return the card, for the Hugging Face hub; reads the labels shard by shard.

    Args:
        dataset: finished.
        name: its title.
        license_id: of the scans, as the hub calls it (`cc-by-4.0`, `other`); None: the card says that it is not known.
    """
    manifest, generated = dataset.manifest, is_generated(dataset)
    size = next((size for size, limit in SIZES.items() if manifest.num_scans < limit), _LARGEST)
    front: dict[str, Any] = {
        "pretty_name": name,
        **({"license": license_id} if license_id else {}),
        "task_categories": ["image-classification", "object-detection"],
        "tags": ["x-ray", "security", "prohibited-items", "webdataset", *(["synthetic"] if generated else [])],
        "size_categories": [size],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}/*.tar"} for split in _filled(dataset)],
            }
        ],
    }
    sections = (
        f"# {name}\n\n{describe_dataset(dataset)}",
        f"## Scans\n\n{_count_scans(dataset)}",
        f"## Reading it\n\n{_explain_reading(dataset)}",
        "## What a row says\n\n" + "\n".join(f"- {line}" for line in _explain_columns(dataset)),
        "## Where it is from\n\n" + "\n".join(f"- {line}" for line in _explain_origin(dataset, generated, license_id)),
        "## What to know before using it\n\n" + "\n".join(f"- {line}" for line in _list_caveats(dataset)),
    )
    return make_card(front, "\n\n".join(sections))


def describe_dataset(dataset: Dataset) -> str:
    """Return one sentence on a dataset."""
    manifest = dataset.manifest
    splits = ", ".join(f"{split} {manifest.ledger[split].converted:,}" for split in manifest.splits)
    return (
        f"{manifest.num_scans:,} X-ray scans of bags ({splits}) with labels of {', '.join(manifest.classes)} and the "
        f"boxes of the items, as WebDataset shards."
    )


def _filled(dataset: Dataset) -> list[str]:
    """Return the splits that have shards."""
    return list(dict.fromkeys(shard.split for shard in dataset.shards()))


def _count_scans(dataset: Dataset) -> str:
    classes = dataset.manifest.classes
    present: defaultdict[str, Counter[str]] = defaultdict(Counter)
    unknown: Counter[str] = Counter()
    boxes: Counter[str] = Counter()
    for shard in dataset.shards():
        table = read_parquet(dataset.samples_url(shard), ["labels", "boxes"])
        labels = table["labels"].combine_chunks()
        for name in classes:
            values = labels.field(name)
            present[shard.split][name] += pc.sum(pc.equal(values, 1)).as_py() or 0
            unknown[name] += values.null_count
        boxes[shard.split] += pc.sum(pc.list_value_length(table["boxes"])).as_py() or 0
    rows = []
    for split in dataset.manifest.splits:
        counts = dataset.manifest.ledger[split]
        figures = (counts.converted, counts.quarantined, *(present[split][name] for name in classes), boxes[split])
        rows.append([split, *(f"{number:,}" for number in figures)])
    table_text = format_table(["split", "scans", "refused", *classes, "boxes"], rows)
    note = ", ".join(f"{name} of {number:,}" for name, number in unknown.items() if number)
    return f"Scans that hold each class.\n\n{table_text}" + (f"\n\nUnknown labels: {note} scans." if note else "")


def _explain_reading(dataset: Dataset) -> str:
    split, extension = (_filled(dataset) or ["train"])[0], "jpg"
    for shard in dataset.shards()[:1]:
        extension = storage.read_bytes(dataset.index_url(shard)).decode().splitlines()[1].partition(" ")[0]
    name = dataset.manifest.classes[0]
    mixed = "".join(f"\n\n{line}" for line in describe_mixed_formats(dataset))
    return f"""```python
import datasets, duckdb

scans = datasets.load_dataset("webdataset", data_files={{"{split}": "DATASET/{split}/*.tar"}})["{split}"]
scans[0]["{extension}"], scans[0]["json"]["labels"]
duckdb.sql("select key, boxes from 'DATASET/samples/*.parquet' where labels.\\"{name}\\" = 1")
```

`samples/*.parquet` has a row a scan; `offset_bytes` and `size_bytes` find an image in its tar without reading the rest.
`croissant.json` describes the files and their records in MLCommons' Croissant format.{mixed}"""


def _explain_columns(dataset: Dataset) -> Iterator[str]:
    yield "`labels`: 1 present, 0 absent, null unknown."
    yield "`boxes`: class and edges in pixels of the image as stored, x to the right, y down."
    yield "`sha256`: of the image's bytes; `duplicate_of`: the first key with the same bytes."
    if "group" in dataset.manifest.samples_schema.names:
        yield "`group`: scans of one bag share it; null: alone."
    if dataset.manifest.metadata:
        columns = ", ".join(f"`{name}` ({kind})" for name, kind in dataset.manifest.metadata.items())
        yield f"`metadata`: {columns}."


def _explain_origin(dataset: Dataset, generated: bool | None, license_id: str | None) -> Iterator[str]:
    options = dataset.manifest.options
    if generated:
        yield "The scans are generated, not taken by a scanner."
    if found := options.get("found"):
        yield f"Converted from a corpus: {found}."
    elif inputs := options.get("inputs"):
        names = ", ".join(storage.base_name(str(url)) for url in inputs)
        yield f"Made of other datasets: {names}."
    if where := options.get("where"):
        yield f"Rows that hold: `{where}`."
    yield f"License of the scans: {license_id or 'not stated; ask whoever published the corpus'}."
    yield f"Digest `{dataset.manifest.digest}`; `sixray verify` reads every byte against it."
    versions = ", ".join(f"{name} {version}" for name, version in sorted(dataset.manifest.versions.items()))
    yield f"Written by {versions}."


def _list_caveats(dataset: Dataset) -> Iterator[str]:
    manifest = dataset.manifest
    yield "Labels say what the lists and boxes of the corpus say; nobody has looked at the scans again."
    refused: Counter[str] = Counter()
    for counts in manifest.ledger.values():
        refused.update(counts.quarantined_by_reason)
    if refused:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(refused.items()))
        yield f"Refused at conversion, each with its reason in `quarantine/`: {reasons}."
    kinds = ("contradictions", "repairs", "leakage")
    for line in describe_findings({name: getattr(manifest, name) for name in kinds}):
        yield f"{line[0].upper()}{line[1:]}."
    if manifest.skipped:
        skipped = ", ".join(f"{found['count']:,} {kind}" for kind, found in manifest.skipped.items())
        yield f"Files of the corpus that are no scans: {skipped}."
