"""Test the columns of formats 1 and 2."""

import pyarrow as pa

from shards.format.schemas import QUARANTINE_SCHEMA, add_columns, predictions_schema, samples_schema


def test_columns_are_those_of_format_1():
    samples = samples_schema(("Gun", "Hammer"), format_version=1)
    assert samples.names == [
        *("key", "split", "shard", "offset_bytes", "size_bytes", "sha256", "width_px", "height_px"),
        *("labels", "boxes", "source_uri", "duplicate_of"),
    ]
    assert samples.field("labels").type == pa.struct([("Gun", pa.int8()), ("Hammer", pa.int8())])
    assert [field.name for field in samples.field("boxes").type.value_type] == [
        *("class", "xmin_px", "ymin_px", "xmax_px", "ymax_px"),
    ]
    assert QUARANTINE_SCHEMA.names == ["source_uri", "key", "stage", "reason", "detail", "sha256"]
    assert predictions_schema(("Gun",)).names == ["key", "split", "logits", "level_logits", "peaks"]
    nullable = {field.name for schema in (samples, QUARANTINE_SCHEMA) for field in schema if field.nullable}
    assert nullable == {"duplicate_of", "sha256"}


def test_format_2_adds_a_group_and_metadata():
    old = samples_schema(("Gun",), format_version=1)
    assert samples_schema(("Gun",)).names == [*old.names, "group"]
    samples = samples_schema(("Gun",), {"site": "string", "taken": "date"})
    assert samples.names == [*old.names, "group", "metadata"]
    assert samples.field("metadata").type == pa.struct([("site", pa.string()), ("taken", pa.date32())])
    assert samples.field("group").nullable and samples.field("metadata").nullable


def test_rows_of_format_1_get_the_columns_of_format_2():
    old, new = samples_schema(("Gun",), format_version=1), samples_schema(("Gun",), {"kV": "int64"})
    row: dict[str, object] = dict.fromkeys(old.names, "1")
    row |= {"labels": {"Gun": 1}, "boxes": [], "duplicate_of": None}
    row |= dict.fromkeys(("offset_bytes", "size_bytes", "width_px", "height_px"), 1)
    table = add_columns(pa.Table.from_pylist([row], old.with_metadata({"sixray": "{}"})), new)
    assert table.schema.remove_metadata() == new and table.schema.metadata == {b"sixray": b"{}"}
    assert table.to_pylist() == [row | {"group": None, "metadata": None}]
