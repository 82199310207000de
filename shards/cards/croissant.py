"""Describe a dataset as Croissant metadata, by which other programs find its files and load its records."""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from shards import storage
from shards.format.dataset import Dataset
from shards.format.parquet import BOX_TYPE
from shards.host import count_cores

CROISSANT_NAME = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The standard context of Croissant 1.0."""
_TABLE = "samples-table"
_IMAGES, _ANNOTATIONS = "images", "annotations"
_DATES = {"date", "timestamp"}


def croissant_json(dataset: Dataset, about: Mapping[str, str]) -> bytes:
    """Return `croissant.json`, to lie in the dataset's folder; reads every tar once, for its checksum.

    Two record sets: `samples`, the rows of the tables, and `scans`, the images of the tars with their annotations.

    Args:
        dataset: finished.
        about: `name`, `description`, and `license` if it is known.

    Source:
        MLCommons, "Croissant Format Specification 1.0" (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).
    """
    tars = _list_tars(dataset)
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        **about,
        "version": f"1.0.0+{dataset.manifest.digest[:12]}",
        "distribution": [*tars, *_file_sets([tar["@id"] for tar in tars])],
        "recordSet": [_samples(dataset), _scans()],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _list_tars(dataset: Dataset) -> list[dict[str, Any]]:
    shards = dataset.shards()
    with ThreadPoolExecutor(count_cores(), thread_name_prefix="checksums") as pool:
        checksums = list(pool.map(lambda shard: storage.sha256_of(dataset.tar_url(shard)), shards))
    return [
        {
            "@type": "cr:FileObject",
            "@id": f"{shard.split}/{shard.name}.tar",
            "name": f"{shard.name}.tar",
            "contentUrl": f"{shard.split}/{shard.name}.tar",
            "contentSize": f"{shard.tar_bytes} B",
            "encodingFormat": "application/x-tar",
            "sha256": checksum,
        }
        for shard, checksum in zip(shards, checksums, strict=True)
    ]


def _file_sets(tars: Iterable[str]) -> Iterator[dict[str, Any]]:
    inside = [{"@id": tar} for tar in tars]
    yield {
        "@type": "cr:FileSet",
        "@id": _TABLE,
        "description": "A row a sample: labels, boxes, checksum, and where its image lies.",
        "encodingFormat": "application/x-parquet",
        "includes": "samples/*.parquet",
    }
    for name, what, formats, includes in (
        (_IMAGES, "The scans.", ["image/jpeg", "image/png"], ["*.jpg", "*.png"]),
        (_ANNOTATIONS, "Labels and boxes of each scan.", "application/json", "*.json"),
    ):
        yield {
            "@type": "cr:FileSet",
            "@id": name,
            "description": what,
            "containedIn": inside,
            "encodingFormat": formats,
            "includes": includes,
        }


def _samples(dataset: Dataset) -> dict[str, Any]:
    manifest = dataset.manifest
    fields = [
        _column("key", "sc:Text", "Unique name of the scan."),
        _column("split", "sc:Text", f"One of {', '.join(manifest.splits)}."),
        _column("shard", "sc:Text", "File name of its tar."),
        _column("offset_bytes", "sc:Integer", "Where the image begins in the tar."),
        _column("size_bytes", "sc:Integer", "Size of the image."),
        _column("sha256", "sc:Text", "Of the image's bytes."),
        _column("width_px", "sc:Integer", "Width of the image."),
        _column("height_px", "sc:Integer", "Height of the image."),
        _column("duplicate_of", "sc:Text", "Key of the first sample with the same bytes; else null."),
    ]
    fields += [_nested("labels", name, "sc:Integer", "1 present, 0 absent, null unknown.") for name in manifest.classes]
    if "group" in manifest.samples_schema.names:
        fields.append(_column("group", "sc:Text", "Scans of one bag share it; null: alone."))
    fields += [
        _nested("metadata", name, _data_type(kind), "A column of the user's own.")
        for name, kind in manifest.metadata.items()
    ]
    fields.append(
        {
            "@type": "cr:Field",
            "@id": "samples/boxes",
            "description": "Boxes of the items, in pixels of the image as stored.",
            "repeated": True,
            "subField": [
                _nested("boxes", field.name, "sc:Text" if field.type == pa.string() else "sc:Float", "", repeated=True)
                for field in BOX_TYPE
            ],
        }
    )
    return {"@type": "cr:RecordSet", "@id": "samples", "key": {"@id": "samples/key"}, "field": fields}


def _scans() -> dict[str, Any]:
    stem = {"fileSet": {"@id": _IMAGES}, "extract": {"fileProperty": "filename"}}
    content = {"fileSet": {"@id": _IMAGES}, "extract": {"fileProperty": "content"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "scans",
        "description": "The images; join them with `samples` by key.",
        "key": {"@id": "scans/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "scans/key",
                "description": "Unique name of the scan.",
                "dataType": "sc:Text",
                "source": stem | {"transform": {"regex": r"^(.*)\.[a-z]+$"}},
            },
            {
                "@type": "cr:Field",
                "@id": "scans/image",
                "description": "The scan.",
                "dataType": "sc:ImageObject",
                "source": content,
            },
        ],
    }


def _column(name: str, data_type: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "description": description,
        "dataType": data_type,
        "source": {"fileSet": {"@id": _TABLE}, "extract": {"column": name}},
    }


def _nested(column: str, name: str, data_type: str, description: str, *, repeated: bool = False) -> dict[str, Any]:
    """Return a field of a struct, or of the structs in a list."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    source = {
        "fileSet": {"@id": _TABLE},
        "extract": {"column": column},
        "transform": {"jsonPath": f'$."{quoted}"'},
    }
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"samples/{column}/{name}", "dataType": data_type}
    if description:
        field["description"] = description
    if repeated:
        field["repeated"] = True
    return field | {"source": source}


def _data_type(kind: str) -> str:
    if kind in _DATES:
        return "sc:Date"
    return {"int64": "sc:Integer", "double": "sc:Float"}.get(kind, "sc:Text")
