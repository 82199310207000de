"""Render the ranked scans of a review as one page, on which a person marks labels and saves corrections."""

# N scans

import base64
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.scans.scored_scans import ScoredScans
from model.reports.gallery import LARGE_PX, describe_example, read_pictures
from model.reports.heatmap_overlay import Layer
from model.reports.text import numbers
from model.reports.text.templates import make_environment
from shards.curation.corrections import COLUMNS
from shards.format.classes import PRESENT, Box
from shards.format.shard_reader import LabelledRow
from shards.predictions.trained_on import is_training_data

MAX_PICTURE_BYTES = 60_000_000
"""Of all pictures of a page: those of 1,000 scans at LARGE_PX."""


def render_page(
    document: Mapping[str, Any],
    suspects: pa.Table,
    scans: ScoredScans,
    samples: Mapping[str, LabelledRow],
    layers: Mapping[str, Layer],
) -> str:
    """Return the page; equal arguments give equal bytes. A picture that cannot be read is replaced by the reason.

    Args:
        document: of review.json.
        suspects: of `model.review.ranking.describe_suspects`.
        scans: that were ranked.
        samples: of the suspects, by key.
        layers: heatmap of a suspect's class, by key; of all, some or none of them.
    """
    keys = suspects["key"].to_pylist()
    places = {key: (found.tar_url, found.row) for key, found in samples.items()}
    pictures, problems = read_pictures(places, keys, LARGE_PX, MAX_PICTURE_BYTES)
    rows_N = pc.index_in(suspects["key"].combine_chunks(), scans.keys_N).to_pylist()
    cards = [
        row
        | {
            "example": describe_example(scans, scans.classes.index(row["class"]), n, 0),
            "labels_if_wrong": json.dumps({row["class"]: int(row["label"] != PRESENT)}, ensure_ascii=False),
            "boxes_if_wrong": _boxes_without(samples[row["key"]].boxes, row["class"])
            if row["label"] == PRESENT
            else "",
        }
        for row, n in zip(suspects.to_pylist(), rows_N, strict=True)
    ]
    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            document=document,
            cards=cards,
            pictures=pictures,
            layers=layers,
            problems=problems,
            columns=COLUMNS,
            learnt=is_training_data(document["trained_share"]),
        )
    )


def _boxes_without(boxes: Sequence[Box], class_name: str) -> str:
    """Return the boxes that a scan keeps if a class is not in it, as a file of corrections has them."""
    kept = [box for box in boxes if box.class_name != class_name]
    changed = len(kept) != len(boxes)
    return json.dumps([[box.class_name, *box.edges_px] for box in kept], ensure_ascii=False) if changed else ""


@functools.cache
def _environment() -> jinja2.Environment:
    filters = {
        "count": numbers.format_count,
        "score": numbers.format_number,
        "evidence": lambda log_odds: f"{log_odds:z.1f}",
        "base64": lambda data: base64.b64encode(data).decode(),
    }
    return make_environment(filters, "model.review")
