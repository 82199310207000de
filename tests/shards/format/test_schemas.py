"""Test the columns of format 1."""

import pyarrow as pa

from shards.format.schemas import QUARANTINE_SCHEMA, predictions_schema, samples_schema


def test_columns_are_those_of_format_1():
    samples = samples_schema(("Gun", "Hammer"))
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
