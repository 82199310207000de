"""Every change of a file of the product goes through `shards.storage`, where crashes can be simulated."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHANGES = frozenset(
    (
        "mkdir",
        "makedirs",
        "remove",
        "rename",
        "replace",
        "rmdir",
        "rmtree",
        "touch",
        "unlink",
        "write_bytes",
        "write_text",
    )
)
MODULES = {"os", "shutil"}


def changes_of(path: Path) -> set[str]:
    """Return the calls in a module that change a file without `shards.storage`: by their text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            found.add("open")
        if isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            owner = ast.unparse(node.func.value)
            is_text = node.func.attr in {"replace", "remove"} and owner not in MODULES
            if owner != "storage" and not is_text:
                found.add(ast.unparse(node.func))
    return found


EXEMPT = {
    "model/artifacts/quantize.py": {"original.write_bytes"},
    "pipelines/flag_tables.py": {"README.write_text"},
    "pipelines/runtime/interrupts.py": {"open"},
    "shards/writing/output_folder.py": {"empty.rmdir"},
}
"""A scratch file of ONNX Runtime, the documentation of this checkout, the terminal, and empty folders after a job: what
a power cut does to them loses nothing.
"""
MODULES_OF_PRODUCT = [
    path
    for package in ("shards", "model", "pipelines")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ROOT / "shards/storage" not in path.parents
]


def test_no_module_changes_files_but_through_the_storage_room():
    found = {str(path.relative_to(ROOT)): changes for path in MODULES_OF_PRODUCT if (changes := changes_of(path))}
    assert found == EXEMPT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("open('a', 'w')", {"open"}),
        ("os.replace(a, b)", {"os.replace"}),
        ("path.unlink()", {"path.unlink"}),
        ("shutil.rmtree(path)", {"shutil.rmtree"}),
        ("text.replace('a', 'b')", set()),
        ("storage.write_bytes(url, data)", set()),
    ],
)
def test_changes_of_files_are_told_from_other_calls(tmp_path, line, expected):
    (tmp_path / "module.py").write_text(line)
    assert changes_of(tmp_path / "module.py") == expected
