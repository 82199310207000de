"""Read the manifests in deploy/: documents, containers, and the arguments of each command."""

import ast
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
VALUES = {
    "PARALLELISM": "4",
    "CORPUS": "s3://b/corpus",
    "DATASETS": "s3://b/datasets",
    "MODEL": "s3://b/models/current",
    "PREDICTIONS": "s3://b/predictions",
}
"""The values with which Kubernetes replaces `$(NAME)`."""


def documents(folder: Path = BASE) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every resource of a folder with its file's name, except kustomize's own files."""
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if path.name not in ("kustomization.yaml", "image-places.yaml"):
                yield path.name, document


def pod_specs(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pod specifications of a resource."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]["spec"]
    elif document["kind"] == "Deployment":
        yield spec["template"]["spec"]
    elif document["kind"] == "FlinkDeployment":
        yield spec["jobManager"]["podTemplate"]["spec"]
        yield spec["taskManager"]["podTemplate"]["spec"]


def expand(words: list[str]) -> list[str]:
    """Return arguments with every `$(NAME)` replaced, as the kubelet does; KeyError if undefined."""
    return [re.sub(r"\$\((\w+)\)", lambda found: VALUES[found.group(1)], word) for word in words]


def words_of(container: dict[str, Any], job: str) -> list[str]:
    """Return the arguments of `sixray` that a container of a job runs; shell scripts are run to get them."""
    words = expand([*container.get("command", []), *container["args"]])
    if words[0] != "sh":
        return words
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "sixray"
        program.write_text("""#!/bin/sh\nprintf '%s\\n' "$@"\n""")
        program.chmod(0o700)
        variables = VALUES | {"JOB": job, "PATH": f"{folder}:{os.environ['PATH']}"}
        return subprocess.run(words, env=variables, capture_output=True, text=True, check=True).stdout.splitlines()


def alert_rules() -> list[dict[str, Any]]:
    """Return the alerting rules."""
    rules = yaml.safe_load((DEPLOY / "kubernetes" / "components" / "alerts" / "alerts.yaml").read_text())
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"]]


def constants_of(path: Path) -> dict[str, Any]:
    """Return the names that a module binds to literals, without running it; `{{ ... }}` and f-strings stay text."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = _literal(node.value, found)
    return found


def _literal(node: ast.expr, known: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return known[name]
        case ast.List(items) | ast.Tuple(items):
            return [_literal(item, known) for item in items]
        case ast.Dict(keys, values):
            pairs = zip(keys, values, strict=True)
            return {_literal(key, known): _literal(value, known) for key, value in pairs if key is not None}
        case ast.JoinedStr(parts):
            return "".join(str(_literal(part, known)) for part in parts)
        case ast.FormattedValue(value):
            return _literal(value, known)
    raise ValueError(f"constant must be a literal, got {ast.unparse(node)}")


def module_at(path: Path) -> Any:
    """Import a module outside any package, as its program would."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
