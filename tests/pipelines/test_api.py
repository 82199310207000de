"""Test the names that `import pipelines` offers."""

import subprocess
import sys
from dataclasses import is_dataclass
from types import ModuleType

import pytest

import pipelines


def test_every_job_has_a_function_and_a_config():
    assert set(pipelines.__all__) <= set(dir(pipelines))
    configs = [name for name in pipelines.__all__ if name.endswith("Config")]
    assert len(configs) == 8 and all(is_dataclass(getattr(pipelines, name)) for name in configs)
    functions = [name for name in pipelines.__all__ if name not in configs]
    assert len(functions) == 8 and all(callable(getattr(pipelines, name)) for name in functions)


def test_a_command_is_imported_as_a_module():
    from pipelines import convert, score, verify

    assert all(isinstance(module, ModuleType) for module in (convert, score, verify))


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'pipelines' has no attribute 'convrt'"):
        _ = pipelines.convrt


def test_import_loads_neither_beam_nor_pytorch():
    script = "import sys, pipelines; print(sys.modules.keys() & {'apache_beam', 'torch', 'pyarrow'})"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
