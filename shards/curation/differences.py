"""Compare the scans of two datasets: which came, went, were renamed or changed, by sha256; in bounded memory."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from shards.format.dataset import Dataset

KINDS = ("came", "went", "renamed", "image", "split", "label", "boxes", "group", "metadata")
"""Kinds of differences, in the order in which they are listed."""
MEMORY = "1GB"
"""DuckDB writes to the disk what does not fit."""
_FETCHED_ROWS = 10_000
_MATCHES = """
CREATE TABLE pairs AS SELECT a.key AS old, b.key AS new FROM a JOIN b USING (key);
CREATE TABLE alone AS
    SELECT 'a' AS side, key, sha256 FROM a ANTI JOIN b USING (key) UNION ALL
    SELECT 'b' AS side, key, sha256 FROM b ANTI JOIN a USING (key);
CREATE TABLE renamed AS
    WITH numbered AS (SELECT *, row_number() OVER (PARTITION BY side, sha256 ORDER BY key) AS place FROM alone)
    SELECT a.key AS old, b.key AS new, sha256 FROM
    (SELECT * FROM numbered WHERE side = 'a') a JOIN (SELECT * FROM numbered WHERE side = 'b') b USING (sha256, place);
INSERT INTO pairs SELECT old, new FROM renamed;
CREATE TABLE changes (kind TEXT, key TEXT, what TEXT, before TEXT, after TEXT);
INSERT INTO changes SELECT 'came', key, NULL, NULL, sha256 FROM alone
    WHERE side = 'b' AND key NOT IN (SELECT new FROM renamed);
INSERT INTO changes SELECT 'went', key, NULL, sha256, NULL FROM alone
    WHERE side = 'a' AND key NOT IN (SELECT old FROM renamed);
INSERT INTO changes SELECT 'renamed', new, NULL, old, new FROM renamed;
"""


class Difference(NamedTuple):
    """One difference of one scan."""

    kind: str
    """One of `KINDS`."""
    key: str
    """In the second dataset; of a scan that went, in the first."""
    what: str | None
    """The class of a label, the column of metadata."""
    before: str | None
    after: str | None
    """Checksums of a scan that came, went or has another image; keys of one that was renamed; else values."""


class Differences:
    """The differences of two datasets, in a database on the disk as long as the comparison is open."""

    def __init__(self, connection: Any, first: Dataset, second: Dataset) -> None:
        self._connection = connection
        self._datasets = (first, second)

    def summarise(self, num_examples: int = 5) -> dict[str, Any]:
        """Return how many scans differ in what, with examples, as a JSON document."""
        counts = dict(
            self._connection.execute("SELECT kind, count(DISTINCT key) FROM changes GROUP BY kind").fetchall()
        )
        values = (
            "SELECT coalesce(what, kind), coalesce(before, 'null'), coalesce(after, 'null'), count(*) FROM changes "
            "WHERE kind IN ('label', 'split') GROUP BY ALL ORDER BY ALL"
        )
        touched = "SELECT count(DISTINCT key) FROM changes WHERE kind NOT IN ('came', 'went')"
        ((num_changed,),) = self._connection.execute(touched).fetchall()
        ((num_matched,),) = self._connection.execute("SELECT count(*) FROM pairs").fetchall()
        first, second = (dataset.manifest for dataset in self._datasets)
        return {
            "datasets": [
                {"url": dataset.url, "digest": dataset.manifest.digest, "num_scans": dataset.manifest.num_scans}
                for dataset in self._datasets
            ],
            "is_same": not counts and first.classes == second.classes and first.metadata == second.metadata,
            "num_same": num_matched - num_changed,
            "classes": _compare_names(first.classes, second.classes),
            "metadata": _compare_names(tuple(first.metadata), tuple(second.metadata)),
            "counts": {kind: counts.get(kind, 0) for kind in KINDS},
            "values": [dict(zip(("what", "before", "after", "num_scans"), row, strict=True)) for row in
                       self._connection.execute(values).fetchall()],
            "examples": {
                kind: [change._asdict() for change in self._read("WHERE kind = ?", [kind], f"LIMIT {num_examples}")]
                for kind in KINDS
                if counts.get(kind)
            },
        }  # fmt: skip

    def __iter__(self) -> Iterator[Difference]:
        """Yield every difference, by kind and key."""
        for kind in KINDS:
            yield from self._read("WHERE kind = ?", [kind])

    def _read(self, where: str, values: Sequence[str], limit: str = "") -> Iterator[Difference]:
        query = f"SELECT * FROM changes {where} ORDER BY key, what {limit}"
        found = self._connection.cursor().execute(query, values)
        while rows := found.fetchmany(_FETCHED_ROWS):
            yield from map(Difference._make, rows)


@contextmanager
def compare_datasets(first: Dataset, second: Dataset) -> Iterator[Differences]:
    """Give the differences of two datasets, which are read shard by shard.

    A scan of one dataset is that of the other with the same key; where a key is in one alone, with the same bytes.
    """
    with tempfile.TemporaryDirectory(prefix="sixray-diff-") as folder:
        config = {"memory_limit": MEMORY, "temp_directory": folder, "preserve_insertion_order": "false"}
        with duckdb.connect(str(Path(folder) / "scans.duckdb"), config=config) as connection:
            for name, dataset in (("a", first), ("b", second)):
                _load(connection, name, dataset)
            connection.execute(_MATCHES)
            for kind, what, before, after in _list_fields(first, second):
                connection.execute(
                    f"INSERT INTO changes SELECT '{kind}', b.key, {_quote(what)}, CAST({before} AS TEXT), "
                    f"CAST({after} AS TEXT) FROM pairs JOIN a ON a.key = old JOIN b ON b.key = new "
                    f"WHERE {before} IS DISTINCT FROM {after}"
                )
            yield Differences(connection, first, second)


def _load(connection: Any, name: str, dataset: Dataset) -> None:
    """Copy the rows of a dataset into a table, shard by shard; its boxes sorted, as their order says nothing."""
    for number, shard in enumerate(dataset.shards() or (None,)):
        columns = ["key", "split", "sha256", "labels", "boxes", "group", "metadata"]
        rows = dataset.read_samples(columns=columns, shards=[] if shard is None else [shard])
        connection.register("rows", rows)
        select = "SELECT * REPLACE (list_sort(boxes) AS boxes) FROM rows"
        connection.execute(f"INSERT INTO {name} {select}" if number else f"CREATE TABLE {name} AS {select}")
        connection.unregister("rows")


def _list_fields(first: Dataset, second: Dataset) -> Iterator[tuple[str, str | None, str, str]]:
    """Yield kind, name and both SQL values of everything that is compared; what a dataset lacks is null."""
    yield "image", None, "a.sha256", "b.sha256"
    yield "split", None, "a.split", "b.split"
    for name in dict.fromkeys((*first.manifest.classes, *second.manifest.classes)):
        yield "label", name, *_pick("labels", name, first.manifest.classes, second.manifest.classes)
    yield "boxes", None, "a.boxes", "b.boxes"
    yield "group", None, 'a."group"', 'b."group"'
    for name in dict.fromkeys((*first.manifest.metadata, *second.manifest.metadata)):
        before, after = _pick("metadata", name, first.manifest.metadata, second.manifest.metadata)
        yield "metadata", name, f"CAST({before} AS TEXT)", f"CAST({after} AS TEXT)"


def _pick(column: str, name: str, first: Sequence[str] | dict[str, str], second: Any) -> tuple[str, str]:
    quoted = '"' + name.replace('"', '""') + '"'
    return tuple(  # type: ignore[return-value]
        f"{side}.{column}.{quoted}" if name in names else "NULL" for side, names in (("a", first), ("b", second))
    )


def _quote(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def _compare_names(first: Sequence[str], second: Sequence[str]) -> dict[str, list[str]]:
    return {
        "came": [name for name in second if name not in first],
        "went": [name for name in first if name not in second],
    }
