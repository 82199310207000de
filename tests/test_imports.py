"""Hold the direction of imports between packages and rooms, the size of rooms, and what each room shows to others."""

import ast
import functools
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
# A room, or a module that lies right in its package, and the others of its package that it may import.
MAY_IMPORT = {
    "shards": {
        "host": "",
        "storage": "",
        "images": "",
        "format": "prefetch storage images",
        "prefetch": "",
        "shuffle": "",
        "corpus": "shuffle prefetch format storage images host",
        "predictions": "shuffle prefetch format storage images host",
        "curation": "predictions corpus shuffle prefetch format storage images host",
        "cards": "curation format storage host",
        "annotation": "curation predictions format storage images",
        "verify": "predictions corpus shuffle prefetch format storage images host",
        "writing": "verify curation predictions corpus shuffle prefetch format storage images host",
    },
    "model": {
        "hardware": "",
        "networks": "",
        "metrics": "",
        "artifacts": "networks",
        "inputs": "networks hardware",
        "training": "artifacts inputs networks metrics hardware",
        "scoring": "artifacts inputs networks hardware",
        "evaluation": "metrics",
        "recipes": "training evaluation inputs networks",
        "reports": "recipes evaluation metrics",
        "monitoring": "reports evaluation metrics",
        "review": "reports evaluation metrics",
        "cards": "artifacts reports metrics",
    },
    "pipelines": {"runtime": "", "phantom": "", "steps": "runtime", "transforms": "steps runtime"},
}
MAX_FILES_OF_ROOM = 14
MODULES = sorted(path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py"))
ROOMS = sorted({path.parent for path in MODULES if path.parent.parent != ROOT})


@functools.cache
def list_imports(path: Path) -> set[str]:
    """Return every module and name that a file imports, dotted, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def list_imported_packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in list_imports(path)}


@functools.cache
def read_exports(room: Path) -> list[str]:
    """Return `__all__` of a room's `__init__.py`."""
    for node in ast.parse((room / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_packages_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(FORBIDDEN)
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_between_packages_point_down_only(path):
    assert list_imported_packages(path) & FORBIDDEN[path.relative_to(ROOT).parts[0]] == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_between_rooms_follow_the_architecture(path):
    package, *inner = path.relative_to(ROOT).with_suffix("").parts
    if len(inner) == 1 and inner[0] not in MAY_IMPORT[package]:
        return  # a command, or the package's own __init__: it may import every room
    allowed = {inner[0], *MAY_IMPORT[package][inner[0]].split()}
    imported = {name.split(".")[1] for name in list_imports(path) if name.startswith(f"{package}.")}
    assert imported - allowed == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_uses_of_other_rooms_only_what_they_export(path):
    for name in list_imports(path):
        for room in ROOMS:
            prefix = ".".join(room.relative_to(ROOT).parts) + "."
            if name.startswith(prefix) and room not in path.parents:
                assert name.removeprefix(prefix).partition(".")[0] in read_exports(room), name


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_a_room_has_few_files_and_says_what_it_is_for(room):
    assert len([path for path in room.iterdir() if path.suffix == ".py"]) <= MAX_FILES_OF_ROOM + 1  # and __init__.py
    doc = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert doc and len(doc.splitlines()[0]) <= 100


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_what_a_room_exports_is_there(room):
    names = read_exports(room)
    modules = {path.stem for path in room.glob("*.py")} | {path.name for path in room.iterdir() if path.is_dir()}
    assert [name for name in names if name not in modules] == [] or room.name == "storage"


def test_an_import_inside_a_function_is_seen_too(tmp_path):
    (tmp_path / "m.py").write_text("import a.b\ndef f():\n    from c.d import e\n    import g as h\n")
    assert list_imports(tmp_path / "m.py") == {"a.b", "c.d.e", "g"}


def list_loaded_packages(module: str) -> set[str]:
    """Return the packages that a fresh Python has loaded when it has imported a module."""
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(found.stdout.split())


def test_commands_of_a_machine_that_only_converts_load_no_training_library_and_no_beam_before_they_run():
    # webdataset is among the refused because it imports PyTorch wherever it finds one.
    commands = ("convert", "reshard", "project", "verify", "info", "diff", "annotate", "synth")
    loaded = list_loaded_packages(", ".join(f"pipelines.{command}" for command in commands))
    assert "shards" in loaded
    assert loaded & (TRAINING | {"apache_beam", "model", "webdataset"}) == set()


def test_metrics_evaluation_and_reports_load_no_training_library():
    rooms = {"metrics", "evaluation", "reports", "monitoring"}
    paths = [path for path in MODULES if rooms & set(path.relative_to(ROOT).parts)]
    names = [name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths]
    loaded = list_loaded_packages(", ".join(names))
    assert {"model", "matplotlib"} <= loaded
    assert loaded & TRAINING == set()


def test_metrics_json_loads_no_library_for_pictures():
    assert list_loaded_packages("model.reports.metrics_json") & {"PIL", "matplotlib", "jinja2"} == set()
