"""Test the list of installed versions."""

import platform

import pyarrow

from shards.host import installed_versions


def test_installed_distributions_are_named_and_absent_ones_left_out():
    versions = installed_versions("pyarrow", "no-such-distribution")
    assert versions["python"] == platform.python_version()
    assert versions["pyarrow"] == pyarrow.__version__
    assert "no-such-distribution" not in versions
