"""Read and write the table `detections`: the boxes that a model found, a row a box, in a file beside each part."""

# N rows of scores  D detections  K classes  S scans of a shard

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards import storage
from shards.format.parquet import DETECTIONS_SCHEMA, read_parquet, write_parquet
from shards.predictions.run import Predictions

DETECTIONS = "detections"
"""Folder of the files, and the entry of `run.json` that says how many boxes they have (`num_detections`)."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of the rows of a table of scores: by row, then by falling score."""

    classes: tuple[str, ...]
    row_D: npt.NDArray[np.int64]
    class_D: npt.NDArray[np.int64]
    """Place in `classes`."""
    score_D: npt.NDArray[np.float64]
    edges_D4: npt.NDArray[np.float64]
    """xmin, ymin, xmax, ymax in pixels."""

    def find_peaks(self, num_rows: int) -> npt.NDArray[np.float64]:
        """Return (N, K, 3): x and y of the centre of the highest box of a class, and its score; NaN without a box."""
        peaks_NK3 = np.full((num_rows, len(self.classes), 3), np.nan)
        pairs = self.row_D * len(self.classes) + self.class_D
        _, first = np.unique(pairs, return_index=True)
        centres_N2 = (self.edges_D4[first, :2] + self.edges_D4[first, 2:]) / 2
        peaks_NK3[self.row_D[first], self.class_D[first]] = np.column_stack([centres_N2, self.score_D[first]])
        return peaks_NK3

    def make_table(self, rows_S: npt.NDArray[np.int64], keys_S: pa.Array, split: str) -> pa.Table:
        """Return the table of some scans, in their order, given the row and key of each."""
        begins_S, ends_S = (np.searchsorted(self.row_D, rows_S, side) for side in ("left", "right"))
        counts_S = ends_S - begins_S
        places = np.repeat(ends_S - np.cumsum(counts_S), counts_S) + np.arange(counts_S.sum())
        names = pa.array(self.classes, pa.string()).take(pa.array(self.class_D[places]))
        columns = [
            keys_S.take(pa.array(np.repeat(np.arange(len(rows_S)), counts_S))),
            pa.repeat(split, len(places)),
            names,
            self.score_D[places],
            *(np.ascontiguousarray(edge_D) for edge_D in self.edges_D4[places].T),
        ]
        return pa.table(columns, schema=DETECTIONS_SCHEMA)


def detections_url(predictions_url: str, shard_name: str) -> str:
    """Return the URL of the detections in the scans of a shard."""
    return storage.join_url(predictions_url, DETECTIONS, f"{shard_name}.parquet")


def write_detections(predictions_url: str, shard_name: str, table: pa.Table) -> None:
    """Write the detections of a shard, of `DETECTIONS_SCHEMA`; before its part, which thereby always has them."""
    write_parquet(detections_url(predictions_url, shard_name), table.cast(DETECTIONS_SCHEMA))


def has_detections(predictions: Predictions) -> bool:
    """Return whether predictions have the table."""
    return DETECTIONS in predictions.run


def read_detections(
    predictions: Predictions, split: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the detections of a split, or all, in the order of the parts.

    Raises:
        ValueError: there is no such table, or a file has other bytes than the run wrote.
    """
    if not has_detections(predictions):
        raise ValueError(
            f"predictions must have detections, got scores alone ({predictions.url}); score all "
            f"splits by `sixray score --boxes`, or import some by `sixray import-predictions --format coco-detections`"
        )
    names = [name for name in predictions.run["parts"] if split is None or name.startswith(f"{split}-")]
    predictions.check_bytes(names)
    schema = DETECTIONS_SCHEMA if columns is None else pa.schema([DETECTIONS_SCHEMA.field(name) for name in columns])
    tables = [read_parquet(detections_url(predictions.url, name), columns) for name in names]
    return pa.concat_tables([schema.empty_table(), *tables]).replace_schema_metadata(None)
