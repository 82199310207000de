"""List alarms of bags: a bag whose fused score of a class reaches its threshold, with all its views.

Shapes: N scans, part after part  G bags  K classes  A rows of alarms
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.alarms import PEAKLESS_SCHEMA, Threshold, list_rows
from model.metrics.bags import Fusion, fuse_logits
from model.metrics.operating_points import sigmoid

BAG_ALARMS_SCHEMA = pa.schema(
    [
        PEAKLESS_SCHEMA.field("rank").with_metadata({"what": "of the bag, from 1; its views share it"}),
        pa.field("group", pa.string(), metadata={"what": "of the bag; null for a scan alone"}),
        pa.field("bag_score", pa.float64(), nullable=False, metadata={"what": "fused; it reaches the threshold"}),
        *(
            field.with_nullable(True).with_metadata({"what": "of this view; null where it has none"})
            if field.name == "score"
            else field
            for field in PEAKLESS_SCHEMA
            if field.name != "rank"
        ),
    ]
)
"""A row a view of a bag and class with an alarm; the view itself may be below the threshold."""


@dataclass(frozen=True, slots=True)
class BagAlarms:
    """The bags of scans, and which of them raise an alarm."""

    bag_N: npt.NDArray[np.int64]
    """In 0..G-1."""
    logits_GK: npt.NDArray[np.floating]
    """Fused."""
    classes: tuple[str, ...]
    thresholds: Mapping[str, Threshold]
    """By class; a class without one raises no alarm."""

    def is_alarmed(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which bags raise an alarm for a class."""
        logits_G = self.logits_GK[:, self.classes.index(name)]
        return self.thresholds[name].is_reached(logits_G) & (logits_G > -np.inf)

    def list_views(self, shard: str, rows: pa.Table, groups: pa.ChunkedArray, begin: int) -> pa.Table:
        """Return the rows of a part's scans in alarmed bags, unsorted: `BAG_ALARMS_SCHEMA`, with the bag as rank.

        Args:
            shard: the part's shard.
            rows: of `shards.format.parquet.predictions_schema`: key, split, logits and peaks.
            groups: of the scans; null for a scan alone.
            begin: place of the first among the N scans.
        """
        bag_S = self.bag_N[begin : begin + len(rows)]
        tables = [BAG_ALARMS_SCHEMA.empty_table()]
        for name, threshold in self.thresholds.items():
            places_A = np.flatnonzero(self.is_alarmed(name)[bag_S])
            views = list_rows(shard, rows, name, places_A, threshold.score)
            bag_A = bag_S[places_A]
            own = {
                "rank": pa.array(bag_A),
                "group": groups.take(pa.array(places_A)),
                "bag_score": pa.array(sigmoid(self.logits_GK[bag_A, self.classes.index(name)])),
                "score": pc.if_else(pc.is_nan(views["score"]), None, views["score"]),
            }
            columns = [own[field.name] if field.name in own else views[field.name] for field in BAG_ALARMS_SCHEMA]
            tables.append(pa.table(columns, schema=BAG_ALARMS_SCHEMA))
        return pa.concat_tables(tables)


def find_bag_alarms(
    logits_NK: npt.NDArray[np.floating],
    bags_N: npt.NDArray[np.int64],
    fusion: Fusion,
    classes: Sequence[str],
    thresholds: Mapping[str, Threshold],
) -> BagAlarms:
    """Return the bags that raise an alarm.

    Args:
        logits_NK: of all scans; -inf where there is no score.
        bags_N: a number for each scan, equal within a bag.
        fusion: how the scores of a bag become one.
        classes: of the logits.
        thresholds: by class.
    """
    bag_N = np.unique(bags_N, return_inverse=True)[1]
    return BagAlarms(bag_N, fuse_logits(logits_NK, bag_N, fusion), tuple(classes), thresholds)


def rank_bags(views: Sequence[pa.Table]) -> pa.Table:
    """Return all rows, sorted by the highest score of their bags, then by the bag's score of the class, then by view.

    Equal scores of bags are ordered by the first shard and key, so that equal predictions give equal lists.
    """
    table = pa.concat_tables([BAG_ALARMS_SCHEMA.empty_table(), *views]).combine_chunks()
    table = table.sort_by([("shard", "ascending"), ("key", "ascending")])
    bag_A, score_A = table["rank"].to_numpy(), table["bag_score"].to_numpy()
    _, first_of_bag, number_A = np.unique(bag_A, return_index=True, return_inverse=True)
    highest = np.full(len(first_of_bag), -np.inf)
    np.maximum.at(highest, number_A, score_A)
    rank_of_bag = np.empty(len(highest), np.int64)
    rank_of_bag[np.lexsort((first_of_bag, -highest))] = np.arange(1, len(highest) + 1)
    at = table.schema.get_field_index("rank")
    table = table.set_column(at, table.schema.field(at), pa.array(rank_of_bag[number_A]))
    order = ["rank", "bag_score", "class", "score", "shard", "key"]
    return table.sort_by([(name, "descending" if name.endswith("score") else "ascending") for name in order])
