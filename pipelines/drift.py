"""Compare tonight's predictions with a reference, night after night, and raise an alarm when they have changed."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from model.monitoring.observations import ALARMS, ANY_ITEM, QUARANTINE, add_alarms, observe
from model.monitoring.page import render_page
from model.monitoring.record import (
    FORMAT_VERSION,
    add_night,
    list_changed,
    read_thresholds,
    start_record,
)
from model.monitoring.thresholds import calibrate_by_report, choose_thresholds
from model.reports.output_folder import OutputKind, check_folder, claim_folder, release_folder
from model.reports.text.numbers import format_percent
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import make_config
from shards import storage
from shards.format.dataset import Dataset, open_dataset
from shards.format.json_document import parse_document
from shards.format.parquet import read_parquet, write_parquet
from shards.predictions.run import Predictions, open_predictions, scored_at

RECORD_NAME, PAGE_NAME = "drift.json", "drift.html"


def _name_night(number: int) -> str:
    return "nights/reference.parquet" if number == 0 else f"nights/night-{number:05d}.parquet"


_RECORD = OutputKind(
    noun="record of nights",
    command="sixray drift",
    document_name=RECORD_NAME,
    marker_name="unfinished-drift.json",
    identity=("model_id", "reference_digest"),
    # A run that was killed may have left one night more than the record counts.
    list_files=lambda document: [PAGE_NAME, *map(_name_night, range(len(document["nights"]) + 2))],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """What to compare with what."""

    predictions: str
    """PREDICTIONS/<model-id> of the new scans."""
    reference: str
    """PREDICTIONS/<model-id> of scans that were as they should be, by the same model."""
    output: str
    """Folder of the record: drift.json, drift.html and nights/; give the same one, and the same flags, every night."""
    by: str | None = None
    """Column of the datasets, as metadata.site, whose values are watched one by one too."""
    thresholds: str | None = None
    """File of `sixray calibrate` with the thresholds of alarms; else those that the report leads with, else one score
    that 10 in 1,000 bags of the reference reach."""
    report: str | None = None
    """REPORT_DIR of labelled scans by this model, to estimate recall and precision of every night."""
    data: tuple[str, ...] = ()
    """A scored dataset that is no longer where run.json says; repeatable."""
    alpha: float = 0.01
    """Probability that nights without any change ever raise an alarm, over all that is watched together."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")


def watch_drift(config: DriftConfig) -> dict[str, Any]:
    """Add a night to the record of the output folder; return `drift.json`. A night that it has already changes nothing.

    Raises:
        ValueError: the two are of different models, a scan of the new ones was not scored yet, a dataset is not there,
            or the folder has the record of another reference or of other flags, or files of another program.
    """
    new, reference = open_predictions(config.predictions), open_predictions(config.reference)
    _check_pair(new, reference)
    document, history = _read_record(config, reference)
    digest = new.run["dataset_digest"]
    if digest in [night["dataset_digest"] for night in document["nights"]]:
        return document
    datasets = _find_datasets(new, config.data) if document["has_datasets"] else None
    if document["has_datasets"] and datasets is None:
        raise ValueError(
            f"datasets must be where run.json says, as those of the reference are, got none there ({new.url}); "
            f"name them by --data"
        )
    night = add_alarms(observe(new, datasets, config.by, document["reasons"]), read_thresholds(document))
    about = {"dataset_digest": digest, "url": new.url, "scored_at": scored_at(new.run)}
    history.append(add_night(document, history, night, about))
    _write_record(config.output, document, history)
    return document


def _check_pair(new: Predictions, reference: Predictions) -> None:
    if new.model_id != reference.model_id:
        raise ValueError(f"reference must be of the model {new.model_id}, got {reference.model_id} ({reference.url})")
    if new.run["dataset_digest"] == reference.run["dataset_digest"]:
        raise ValueError(f"predictions must be of other scans than the reference, got the same dataset ({new.url})")
    left = new.run.get("unscored", {"num_scans": 0})["num_scans"]
    if left:
        raise ValueError(
            f"predictions must be of whole datasets, got {left} scans that were not scored yet ({new.url}); run the "
            f"same `sixray score` again first"
        )


def _read_record(config: DriftConfig, reference: Predictions) -> tuple[dict[str, Any], list[Any]]:
    """Return the record so far, or a new one, and the samples of the reference and of its nights."""
    identity = _identify(config, reference)
    url = storage.join_url(config.output, RECORD_NAME)
    if not storage.exists(url):
        check_folder(_RECORD, config.output, identity, (PAGE_NAME, _name_night(0), _name_night(1)))
        return _start_record(config, reference, identity)
    document = parse_document(
        storage.read_bytes(url), FORMAT_VERSION, RECORD_NAME, url, "give another --output to start a new record"
    )
    other = [name for name, value in identity.items() if document.get(name) != value]
    if other:
        raise ValueError(
            f"output must hold the record of the same reference and flags, got another {', '.join(other)} "
            f"({config.output}); give another --output to start a new record"
        )
    urls = [storage.join_url(config.output, _name_night(number)) for number in range(len(document["nights"]) + 1)]
    with ThreadPoolExecutor(16, thread_name_prefix="read-nights") as pool:
        return document, list(pool.map(read_parquet, urls))


def _identify(config: DriftConfig, reference: Predictions) -> dict[str, Any]:
    """Return what all nights of a record share."""
    files = {
        "thresholds_sha256": config.thresholds,
        "report_sha256": config.report and storage.join_url(config.report, "metrics.json"),
    }
    return {
        "model_id": reference.model_id,
        "reference_digest": reference.run["dataset_digest"],
        "alpha": config.alpha,
        "by": config.by,
        **{name: storage.sha256_of(url) if url else None for name, url in files.items()},
    }


def _start_record(
    config: DriftConfig, reference: Predictions, identity: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any]]:
    datasets = _find_datasets(reference, config.data)
    if datasets is None:
        if config.by is not None:
            raise ValueError(
                f"datasets of the reference must be where run.json says to divide by {config.by}, got none there "
                f"({reference.url}); name them by --data"
            )
        log.status(
            f"the scored datasets are not where run.json says ({reference.url}): every scan counts as a bag of its own "
            f"and what conversion refused is not seen; name them by --data",
            level="warning",
        )
    seen = observe(reference, datasets, config.by)
    classes = reference.run["classes"]
    model_id, report = reference.model_id, config.report
    thresholds_K, source = choose_thresholds(seen, classes, model_id, config.thresholds, report)
    calibration = calibrate_by_report(report, model_id, classes, thresholds_K) if report else None
    shared = {**identity, "classes": classes, "threshold_source": source, "has_datasets": datasets is not None}
    document, sample = start_record(add_alarms(seen, thresholds_K), shared, thresholds_K, calibration)
    return document, [sample]


def _find_datasets(predictions: Predictions, given: Sequence[str]) -> list[Dataset] | None:
    """Return the datasets that were scored, by digest; None if one is neither given nor where it was."""
    known = {dataset.manifest.digest: dataset for dataset in map(open_dataset, given)}
    found = []
    for of in predictions.run.get("datasets", ()):
        if of["digest"] not in known:
            try:
                dataset = open_dataset(of["url"])
            except (ValueError, OSError):
                return None
            known[dataset.manifest.digest] = dataset
        found.append(known.get(of["digest"]))
    return [dataset for dataset in found if dataset] if found and all(found) else None


def _write_record(output: str, document: Mapping[str, Any], history: Sequence[pa.Table]) -> None:
    """Write the new samples, the page and, last, the record: a night counts from then on, and a killed run is done
    again.
    """
    page = render_page(document).encode()
    last = len(history) - 1
    new = [0, 1] if last == 1 else [last]
    claim_folder(_RECORD, output, document, [PAGE_NAME, *map(_name_night, new)])
    for number in new:
        write_parquet(storage.join_url(output, _name_night(number)), history[number])
    storage.write_bytes(storage.join_url(output, PAGE_NAME), page)
    text = json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"
    storage.write_bytes(storage.join_url(output, RECORD_NAME), text.encode())
    release_folder(_RECORD, output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where a change is proved."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(DriftConfig, make_parser().parse_args(argv))
    document = watch_drift(config)
    changed = list_changed(document)
    night = document["nights"][-1]
    print(_describe_alarms(document))
    if night["estimates"] and (found := night["estimates"][ANY_ITEM]["if_calibrated"])["recall"] is not None:
        precision = "unknown" if found["precision"] is None else format_percent(found["precision"], " ")
        print(
            f"estimated without labels: recall {format_percent(found['recall'], ' ')}, precision {precision}, "
            f"if scores mean what they meant on the labelled bags"
        )
    nights = len(document["nights"])
    print(f"changed: {', '.join(changed)}" if changed else "no change is proved", end="")
    print(f" in {nights} night{'s' if nights != 1 else ''}: {storage.join_url(config.output, 'drift.html')}")
    return command_line.FINDINGS if changed else command_line.OK


def _describe_alarms(document: Mapping[str, Any]) -> str:
    """Return alarms and refusals per 1,000 bags of the last night, beside the reference's."""
    rates = []
    for stream in document["streams"]:
        if stream["value"] is None and stream["name"] in (ALARMS, QUARANTINE) and stream["nights"][-1] is not None:
            then, now = (1000 * of["mean"] for of in (stream["reference"], stream["nights"][-1]))
            what = "alarms" if stream["name"] == ALARMS else "in quarantine"
            rates.append(f"{now:.1f} {what} (reference {then:.1f})")
    return f"in 1,000 bags: {', '.join(rates)}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "drift",
        DriftConfig,
        "Compare tonight's predictions with a reference, night after night; exit code 1 on a change.",
    )


if __name__ == "__main__":
    sys.exit(main())
