"""Do imports point down only, pipelines -> model -> shards, and does a machine that only converts need no PyTorch?"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAINING = {"torch", "torchvision", "torchmetrics", "nvidia", "timm", "lightning", "safetensors", "tensorboard"}
FORBIDDEN = {
    "shards": {"model", "pipelines", "deploy", "tests", "apache_beam"} | TRAINING,
    "model": {"pipelines", "deploy", "tests", "apache_beam"},
    "pipelines": {"deploy", "tests"},
}
MODULES = sorted(path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Return the first part of every module that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: imports are absolute"
            found.add(str(node.module).partition(".")[0])
    return found


def test_the_packages_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(FORBIDDEN)
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path):
    assert imports_of(path) & FORBIDDEN[path.relative_to(ROOT).parts[0]] == set()


def test_an_import_inside_a_function_is_seen_too(tmp_path):
    (tmp_path / "m.py").write_text("import a.b\ndef f():\n    from c.d import e\n    import g as h\n")
    assert imports_of(tmp_path / "m.py") == {"a", "c", "g"}


@pytest.mark.parametrize("module", ["pipelines.convert", "pipelines.verify", "pipelines.info"])
def test_commands_of_a_machine_that_only_converts_load_no_training_library(module):
    # webdataset is among the refused because it imports PyTorch wherever it finds one.
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(found.stdout.split())
    assert "shards" in loaded
    assert loaded & (TRAINING | {"model", "webdataset"}) == set()
