"""Compare tonight's predictions with a reference, night after night, and raise an alarm when scores have changed."""

import argparse
import hashlib
import html
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.metrics.drift import Wealth, conformal_ranks
from pipelines.runtime import command_line
from pipelines.runtime.flags import make_config
from shards import storage
from shards.format.json_document import parse_document
from shards.format.parquet import parquet_bytes, read_parquet
from shards.predictions.run import Predictions, open_predictions

FORMAT_VERSION = 1
ANY_ITEM, QUARANTINED = "any item", "quarantined"
NUM_OF_NIGHT, NUM_OF_REFERENCE = 500, 5000
"""Scans that a hash of the key picks: enough to see what matters, and a year of them stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """What to compare with what."""

    predictions: str
    """PREDICTIONS/<model-id> of the new scans."""
    reference: str
    """PREDICTIONS/<model-id> of scans that were as they should be, by the same model."""
    output: str
    """Folder for drift.json, drift.html and history.parquet; give the same one every night."""
    alpha: float = 0.01
    """Probability that nights without any change ever raise an alarm, over all scores together."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")


def watch_drift(config: DriftConfig) -> dict[str, Any]:
    """Add a night to the record of the output folder; return `drift.json`. A night that it has already changes nothing.

    Raises:
        ValueError: the two are of different models, or the folder belongs to another reference.
    """
    new, reference = open_predictions(config.predictions), open_predictions(config.reference)
    if new.model_id != reference.model_id:
        raise ValueError(f"reference must be of the model {new.model_id}, got {reference.model_id} ({reference.url})")
    identity = {"model_id": new.model_id, "reference_digest": reference.run["dataset_digest"], "alpha": config.alpha}
    document, history = _read_record(config.output, identity, reference)
    if new.run["dataset_digest"] in [night["dataset_digest"] for night in document["nights"]]:
        return document
    numbers = read_numbers(new, NUM_OF_NIGHT)
    night = len(document["nights"])
    for at, (name, stream) in enumerate(document["streams"].items()):
        wealth = Wealth(stream["log_wealth"], stream["highest"], tuple(map(tuple, stream["bettors"])))
        earlier_R, new_N = (pc.drop_null(of[name]).to_numpy() for of in (history, numbers))
        wealth = wealth.bet(conformal_ranks(earlier_R, new_N, seed=1000 * night + at))
        stream |= asdict(wealth) | {"nights": [*stream["nights"], wealth.log_wealth]}
        stream["is_alarm"] = wealth.is_alarm(config.alpha / len(document["streams"]))
    counts = new.run["counts"]
    document["nights"].append({"dataset_digest": new.run["dataset_digest"], "url": new.url, "counts": counts})
    pages = {
        "history.parquet": parquet_bytes(pa.concat_tables([history, numbers])),
        "drift.html": render_page(document).encode(),
        "drift.json": (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
    }
    for name, content in pages.items():
        storage.write_bytes(storage.join_url(config.output, name), content)
    return document


def read_numbers(predictions: Predictions, limit: int) -> pa.Table:
    """Return the logits of each class and of any item (null for a scan in quarantine), and whether it is there.

    A hash of the key picks at most `limit` scans and orders them: shards are not drawn alike.
    """
    rows = predictions.read_rows(columns=["key", "logits"]).combine_chunks()
    refused = predictions.read_quarantine()["key"].to_pylist()
    keys = rows["key"].to_pylist() + refused
    hashes = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
    order = np.array(sorted(range(len(keys)), key=hashes.__getitem__)[:limit], np.int64)
    fields = dict(zip(predictions.run["classes"], rows["logits"].combine_chunks().flatten(), strict=True))
    columns = {name: values.cast(pa.float64()) for name, values in fields.items()}
    columns[ANY_ITEM] = pc.max_element_wise(*columns.values())
    missing = pa.nulls(len(refused), pa.float64())
    table = {name: pa.concat_arrays([values, missing]) for name, values in columns.items()}
    table[QUARANTINED] = pa.array(np.r_[np.zeros(len(rows)), np.ones(len(refused))])
    return pa.table(table).take(order)


def render_page(document: Mapping[str, Any]) -> str:
    """Return a page with the wealth of each score by night; the line is where the alarm is."""
    limit = float(np.log(len(document["streams"]) / document["alpha"]))
    charts = "".join(_chart(name, stream, limit) for name, stream in document["streams"].items())
    found = [name for name, stream in document["streams"].items() if stream["is_alarm"]]
    verdict = f"Changed: {', '.join(found)}." if found else "No change is proved."
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        "<title>Drift</title><style>body{font:16px system-ui;margin:2rem auto;max-width:50rem;padding:0 1rem}"
        "svg{width:100%;height:6rem}</style>"
        f"<h1>{html.escape(verdict)}</h1><p>Model {html.escape(document['model_id'])}, "
        f"{len(document['nights'])} nights. Evidence against unchanged scores, on a logarithmic scale; "
        f"the dashed line is the alarm. Nights without any "
        f"change ever reach one of the lines with probability {document['alpha']:g} at most.</p>{charts}</html>\n"
    )


def _chart(name: str, stream: Mapping[str, Any], limit: float) -> str:
    heights: npt.NDArray[np.float64] = np.clip(np.array([0.0, *stream["nights"]]), -limit, 2 * limit)
    steps = np.linspace(0, 100, len(heights))
    points = " ".join(f"{x:.2f},{30 - 10 * y / limit:.2f}" for x, y in zip(steps, heights, strict=True))
    return (
        f"<h2>{html.escape(name)}{': changed' if stream['is_alarm'] else ''}</h2>"
        f"<svg viewBox='0 0 100 42' preserveAspectRatio='none' role='img' aria-label='{html.escape(name)}'>"
        f"<path d='M0 20H100' stroke='#b3480e' stroke-dasharray='2' vector-effect='non-scaling-stroke'/>"
        f"<polyline points='{points}' fill='none' stroke='#26547c' vector-effect='non-scaling-stroke'/></svg>"
    )


def _read_record(output: str, identity: Mapping[str, Any], reference: Predictions) -> tuple[dict[str, Any], pa.Table]:
    url = storage.join_url(output, "drift.json")
    if storage.exists(url):
        document = parse_document(storage.read_bytes(url), FORMAT_VERSION, "drift.json", url)
        if any(document[name] != value for name, value in identity.items()):
            raise ValueError(f"output must hold the record of this reference and alpha, got another one's ({output})")
        return document, read_parquet(storage.join_url(output, "history.parquet"))
    history = read_numbers(reference, NUM_OF_REFERENCE)
    start = asdict(Wealth()) | {"nights": [], "is_alarm": False}
    streams = {name: dict(start) for name in history.column_names if history[name].null_count < len(history)}
    return {"format": FORMAT_VERSION, **identity, "nights": [], "streams": streams}, history


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where a change is proved."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(DriftConfig, make_parser().parse_args(argv))
    document = watch_drift(config)
    found = [name for name, stream in document["streams"].items() if stream["is_alarm"]]
    print(f"changed: {', '.join(found)}" if found else "no change is proved", end="")
    print(f" in {len(document['nights'])} nights: {storage.join_url(config.output, 'drift.html')}")
    return command_line.FINDINGS if found else command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "drift", DriftConfig, "Compare tonight's scores with a reference, night after night; exit code 1 on a change."
    )


if __name__ == "__main__":
    sys.exit(main())
