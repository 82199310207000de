"""Select rows of a shard's `samples` by a SQL condition, evaluated by DuckDB."""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

_TABLE = "samples"
_ROW = "row number"
_CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
"""Functions that SQL writes without parentheses, like a column."""
# A condition reaches no file, network or setting. One thread: a job's workers run in parallel.
_CONFIG = {"threads": 1, "enable_external_access": "false", "lock_configuration": "true"}


def check_condition(condition: str, schema: pa.Schema) -> None:
    """Check that a condition can be evaluated for each row by itself.

    Args:
        condition: SQL, e.g. `labels.Gun = 1 and width_px > 600`; columns are those of `samples`.
        schema: of the samples.

    Raises:
        ValueError: it is no condition, names an unknown column, asks for other rows, or follows from more than the
            row (`random()`, `now()`): a step that runs again must choose the same rows.
    """
    with duckdb.connect(config=_CONFIG) as connection:
        try:
            tree = _parse(connection, condition)
            choose_rows(schema.empty_table(), condition)
        except duckdb.Error as error:
            raise _bad_condition(condition, str(error).partition("\n")[0]) from error
        stable = _names(connection, "CONSISTENT")
        unstable = _names(connection, "VOLATILE", "CONSISTENT_WITHIN_QUERY") - stable
    for node in _walk(tree):
        if node.get("class") == "SUBQUERY":
            raise _bad_condition(condition, "it must look at each row by itself, without SELECT")
        if (name := _called_name(node)) in unstable | _CLOCKS:
            raise _bad_condition(condition, f"its answer must always be the same, and that of {name} is not")


def choose_rows(table: pa.Table, condition: str) -> list[int]:
    """Return the numbers of the rows for which a condition is true, in order; null is not true."""
    numbered = table.append_column(_ROW, pa.array(range(table.num_rows), pa.int64()))
    with duckdb.connect(config=_CONFIG) as connection:
        chosen = connection.from_arrow(numbered).filter(condition).project(f'"{_ROW}"').fetchall()
    return sorted(number for (number,) in chosen)


def _parse(connection: Any, condition: str) -> dict[str, Any]:
    # In parentheses, so that nothing can follow a condition: ORDER BY, a comment, a second condition.
    text = f"SELECT * FROM {_TABLE} WHERE ({condition}\n)"
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    document: dict[str, Any] = json.loads(answer)
    if document.get("error"):
        raise duckdb.ParserException(document["error_message"])
    return document


def _names(connection: Any, *stabilities: str) -> set[str]:
    found = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE list_contains(?, stability)", [list(stabilities)]
    )
    return {name for (name,) in found.fetchall()}


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _walk(child)


def _called_name(node: dict[str, Any]) -> str:
    """Return the name of the function that a node calls, or of its column, which may be a function (`_CLOCKS`)."""
    if node.get("class") == "FUNCTION":
        return str(node["function_name"]).lower()
    names = node.get("column_names") or []
    return str(names[0]).lower() if len(names) == 1 else ""


def _bad_condition(condition: str, problem: str) -> ValueError:
    return ValueError(
        f"condition on rows must be SQL over the columns of samples, got {condition!r}: {problem}; "
        f"e.g. `labels.Gun = 1 and width_px > 600`"
    )
