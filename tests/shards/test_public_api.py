"""Test the names that `import shards` offers."""

import subprocess
import sys

import pytest

import shards
from tests.shards.by_hand import small_dataset


def test_the_exported_names_are_these():
    assert shards.__all__ == [
        "QUARANTINE_SCHEMA",
        "Box",
        "ClassSet",
        "Dataset",
        "Predictions",
        "load_class_set",
        "open_dataset",
        "open_predictions",
        "open_webdataset",
        "predictions_schema",
        "read_image",
        "samples_schema",
    ]
    assert set(shards.__all__) <= set(dir(shards))
    for name in shards.__all__:
        assert getattr(shards, name).__class__ is not type(shards), name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'shards' has no attribute 'absent'"):
        _ = shards.absent


def test_importing_shards_loads_no_library():
    script = "import sys, shards; print({'numpy', 'pyarrow', 'fsspec', 'torch', 'webdataset'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_an_image_is_read_by_its_key(tmp_path):
    dataset = small_dataset(tmp_path)
    assert shards.read_image(dataset, "P00003").startswith(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"key must be that of a sample, got 'P99999' \(.*\)"):
        shards.read_image(dataset, "P99999")
