"""Draw scans with heatmap, peak and true boxes."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from torch import Tensor

from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from model.hardware import detect_hardware
from model.metrics.operating_points import sigmoid
from model.reports.heatmap_overlay import Marks, draw_overlay
from model.scoring.heatmap_reader import HeatmapReader, UndrawableError
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, make_config
from pipelines.runtime.progress import Progress
from shards import storage
from shards.format.dataset import open_dataset
from shards.format.keys import encode_key
from shards.format.shard_reader import ReadScan, find_rows, read_scan_of_row
from shards.predictions.run import open_predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlaysConfig:
    """What to draw."""

    predictions: str
    """PREDICTIONS/<model-id>."""
    data: str
    """The dataset that was scored."""
    model: str
    """Folder of the model that scored it."""
    output: str
    """Folder for the pictures, <key>-<class>.png."""
    split: str = "test"
    """Split of the dataset."""
    classes: Annotated[tuple[str, ...], Flag("--class", metavar="NAME")] = ()
    """Class to draw; repeatable; all if not given."""
    keys: Annotated[tuple[str, ...], Flag(nargs="+", metavar="KEY")] = ()
    """Scans to draw; those with the highest scores if not given."""
    limit: Annotated[int, Flag(metavar="N")] = 20
    """Scans of each class, if no keys are given."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be >= 1, got {self.limit}")


def write_overlays(config: OverlaysConfig) -> tuple[int, dict[str, str]]:
    """Write a picture for each scan and class, `<key>-<class>.png`; return their number and the scans that have none.

    One scan at a time is read, checked against its row, decoded and looked at: memory does not grow with their number.

    Raises:
        ValueError: predictions, dataset and model do not belong together, or have no such split, class or key.
    """
    predictions, dataset = open_predictions(config.predictions), open_dataset(config.data)
    reader = HeatmapReader(config.model, predictions.model_id, detect_hardware())
    scans = join_predictions(predictions, dataset, config.split)
    wanted = choose_scans(scans, config)
    artist = _Artist(reader, scans)
    problems: dict[str, str] = {}
    num_pictures = 0
    with Progress("overlays", total=sum(map(len, wanted.values())), unit="pictures") as progress:
        # Each is read by itself: between two of them lie many that nobody asked for.
        for place in find_rows(dataset, wanted, config.split).values():
            scan = read_scan_of_row(*place)
            key = scan.row.key
            try:
                for name, picture in artist.draw(scan, wanted[key]):
                    storage.write_bytes(storage.join_url(config.output, f"{key}-{encode_key(name)}.png"), picture)
                    num_pictures += 1
                    progress.advance(1, len(picture))
            except UndrawableError as error:
                problems[key] = str(error)
    return num_pictures, problems


def choose_scans(scans: ScoredScans, config: OverlaysConfig) -> dict[str, list[int]]:
    """Return the numbers of the classes to draw of each scan, by key."""
    if unknown := sorted(set(config.classes) - set(scans.classes)):
        raise ValueError(f"classes must be among the model's {list(scans.classes)}, got {unknown}")
    numbers = [k for k, name in enumerate(scans.classes) if not config.classes or name in config.classes]
    keys = scans.keys_N.to_pylist()
    if config.keys:
        if absent := sorted(set(config.keys) - set(keys)):
            raise ValueError(f"keys must be scans of split {scans.split!r} that have a prediction, got {absent[:5]}")
        return dict.fromkeys(config.keys, numbers)
    wanted: dict[str, list[int]] = {}
    for k in numbers:
        for n in np.argsort(-scans.logits_NK[:, k], kind="stable")[: config.limit]:
            wanted.setdefault(keys[n], []).append(k)
    return wanted


class _Artist:
    """A model on this machine, and what is known of the scans."""

    def __init__(self, reader: HeatmapReader, scans: ScoredScans) -> None:
        self._reader, self._scans = reader, scans
        self._places = {key: n for n, key in enumerate(scans.keys_N.to_pylist())}

    def draw(self, scan: ReadScan, classes: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        """Yield class name and PNG."""
        maps = self._reader.read(scan)
        for k in classes:
            marks = self._marks(self._places[scan.row.key], k, maps.log_weights_BL)
            yield marks.class_name, draw_overlay(maps.picture, maps.classes_KHW[k], marks, maps.attention_HW)

    def _marks(self, n: int, k: int, log_weights_BL: Tensor | None) -> Marks:
        scans = self._scans
        first, last = np.searchsorted(scans.box_scan_B, [n, n + 1])
        boxes = list(zip(scans.box_edges_B4[first:last].tolist(), scans.box_class_B[first:last] == k, strict=True))
        label = {1: "present", 0: "absent", -1: "unknown"}[int(scans.labels_NK[n, k])]
        name, score = scans.classes[k], sigmoid(scans.logits_NK[n, k])
        weights = _describe_weights(log_weights_BL)
        return Marks(
            title=f"{scans.keys_N[n].as_py()}   {name}: score {score:.3f}, labelled {label}{weights}",
            class_name=name,
            peak_px=tuple(scans.peaks_NK2[n, k].tolist()),
            own_boxes=tuple(tuple(edges) for edges, is_own in boxes if is_own),
            other_boxes=tuple(tuple(edges) for edges, is_own in boxes if not is_own),
        )


def _describe_weights(log_weights_BL: Tensor | None) -> str:
    """Return what a scan's title says of its levels, finest first; nothing where all weigh the same."""
    if log_weights_BL is None:
        return ""
    return ", levels weigh " + " ".join(f"{weight:.2f}" for weight in log_weights_BL[0].exp().tolist())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(OverlaysConfig, make_parser().parse_args(argv))
    num_pictures, problems = write_overlays(config)
    print(f"{num_pictures} pictures: {config.output}")
    for key, reason in problems.items():
        log.status(f"no picture of {key}: {reason}", level="warning")
    return command_line.FINDINGS if problems else command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser("overlays", OverlaysConfig, "Draw scans with heatmap, peak and true boxes.")


if __name__ == "__main__":
    sys.exit(main())
