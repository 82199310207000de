"""List alarms part by part, with what datasets say of the scans."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.alarms import Threshold, find_alarms, rank_alarms
from model.evaluation.bag_alarms import find_bag_alarms, rank_bags
from model.evaluation.scans.bags import number_groups
from model.metrics.bags import Fusion
from shards.format.dataset import Dataset
from shards.format.parquet import QUARANTINE_SCHEMA, read_parquet
from shards.predictions import parts
from shards.predictions.run import Predictions

COLUMNS = ("key", "split", "logits", "peaks")
"""Of predictions, that alarms are made of."""


class ScoredShards:
    """The shards of the given datasets, and what these say of the scans of a part."""

    def __init__(self, datasets: Sequence[Dataset], predictions: Predictions) -> None:
        self._predictions = predictions
        self._shards = {shard.name: (dataset, shard) for dataset in datasets for shard in dataset.shards()}
        self._numbers = {dataset.url: number for number, dataset in enumerate(datasets)}
        if datasets and not self._shards.keys() & set(predictions.run["parts"]):
            raise ValueError(
                f"data must be the dataset that was scored, got {', '.join(dataset.url for dataset in datasets)}; "
                f"none of its shards is in {predictions.url}"
            )

    def add_sources(self, name: str, alarms: pa.Table) -> pa.Table:
        """Return alarms of a part with `source_uri` filled in, which reads rows of the shard only if there are any."""
        if name not in self._shards or not alarms.num_rows:
            return alarms
        sources = self._look_up(name, alarms["key"], "source_uri")
        at = alarms.schema.get_field_index("source_uri")
        return alarms.set_column(at, alarms.schema.field(at), sources)

    def find_groups(self, name: str, keys: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the `group` of each scan of a part; null for a scan alone.

        Raises:
            ValueError: no dataset with the shard was given.
        """
        if name not in self._shards:
            raise ValueError(
                f"data must hold every scored shard where bags raise alarms, got none with {name}; "
                f"name all datasets of {self._predictions.url} by --data"
            )
        dataset = self._shards[name][0]
        if "group" not in dataset.manifest.samples_schema.names:
            return pa.chunked_array([pa.nulls(len(keys), pa.string())])
        return self._look_up(name, keys, "group")

    def name_bags(self, name: str, groups: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return names of the bags of a part's scans: a `group` names different bags in different datasets."""
        return pc.binary_join_element_wise(str(self._numbers[self._shards[name][0].url]), groups, ":")

    def _look_up(self, name: str, keys: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
        dataset, shard = self._shards[name]
        info = parts.read_part_info(self._predictions.url, name)
        if info is None or info.shard_digest != shard.digest:
            raise ValueError(
                f"shard must be as it was when it was scored, got another digest ({shard.name} of {dataset.url}); "
                f"run `sixray score` again"
            )
        rows = read_parquet(dataset.samples_url(shard), ["key", column])
        return rows[column].take(pc.index_in(keys, value_set=rows["key"].combine_chunks()))


def read_unscored(predictions: Predictions, names: Sequence[str]) -> pa.Table:
    """Return the scans without a score, which must be inspected too."""
    infos = parts.read_part_infos(predictions.url, names)
    tables = [
        read_parquet(parts.quarantine_part_url(predictions.url, name))
        for name, info in infos.items()
        if info is not None and info.num_quarantined
    ]
    return pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *tables]).replace_schema_metadata(None)


def list_scans(
    predictions: Predictions, names: Sequence[str], sources: ScoredShards, raised: Mapping[str, Threshold]
) -> tuple[pa.Table, int]:
    """Return the scans that raise an alarm, and the number of all; one part is in memory at a time.

    Args:
        predictions: of one model.
        names: of the parts to take the scans of.
        sources: where they came from.
        raised: thresholds by class.
    """
    found, num_scans = [], 0
    for name in names:
        predictions.check_bytes([name])
        rows = read_parquet(parts.part_url(predictions.url, name), COLUMNS)
        num_scans += rows.num_rows
        found.append(sources.add_sources(name, find_alarms(name, rows, raised)))
    return rank_alarms(found), num_scans


def list_bags(
    predictions: Predictions,
    names: Sequence[str],
    sources: ScoredShards,
    raised: Mapping[str, Threshold],
    fusion: Fusion,
) -> tuple[pa.Table, int, int]:
    """Return the views of bags that raise an alarm, and the numbers of all scans and bags.

    The views of a bag may lie in any parts, so all logits are in memory.

    Raises:
        ValueError: a part is of no shard of the given datasets.
    """
    predictions.check_bytes(names)
    logits, groups, bag_names = [], [], []
    for name in names:
        rows = read_parquet(parts.part_url(predictions.url, name), ["key", "logits"])
        columns = [pc.fill_null(column, -np.inf).to_numpy() for column in rows["logits"].combine_chunks().flatten()]
        logits.append(np.stack(columns, axis=1))
        groups.append(sources.find_groups(name, rows["key"]))
        bag_names.append(sources.name_bags(name, groups[-1]))
    names_N = pa.chunked_array([chunk for of in bag_names for chunk in of.chunks], pa.string()).combine_chunks()
    classes = [field.name for field in predictions.schema.field("logits").type]
    found = find_bag_alarms(np.concatenate(logits), number_groups(names_N), fusion, classes, raised)
    views, begin = [], 0
    for name, groups_S in zip(names, groups, strict=True):
        rows = read_parquet(parts.part_url(predictions.url, name), COLUMNS)
        views.append(sources.add_sources(name, found.list_views(name, rows, groups_S, begin)))
        begin += len(rows)
    return rank_bags(views), begin, len(found.logits_GK)


def count_bags(alarms: pa.Table, thresholds: Mapping[str, Threshold | None]) -> dict[str, Any]:
    """Return the counts of `alarms.json` for alarms of bags."""
    pairs = alarms.select(["rank", "class"]).group_by(["rank", "class"]).aggregate([])
    per_class = {row["values"]: row["counts"] for row in pc.value_counts(pairs["class"].combine_chunks()).to_pylist()}
    return {
        "num_alarms": pairs.num_rows,
        "num_alarmed_bags": int(pc.max(alarms["rank"]).as_py() or 0),
        "num_alarmed_scans": pc.count_distinct(
            pc.binary_join_element_wise(alarms["shard"], alarms["key"], "/")
        ).as_py(),
        "classes": {name: per_class.get(name, 0) for name in thresholds},
    }
