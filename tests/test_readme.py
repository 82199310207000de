"""Run what the READMEs show, and hold what they list against the code."""

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from pipelines import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = ("shards", "model", "pipelines", "deploy", "tests")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *FILES] if path.suffix == ".md")


def list_reasons() -> set[str]:
    """Return every reason that is raised or given as a literal in the packages that refuse records."""
    found = set()
    for path in [*ROOT.glob("shards/**/*.py"), *ROOT.glob("model/scoring/*.py"), *ROOT.glob("model/inputs/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            values = [word.value for word in node.keywords if word.arg == "reason"]
            if name in ("ImageError", "AnnotationError", "Refusal"):
                values += node.args[:1]
            if name == "ProblemFact":
                values += node.args[2:3]
            found |= {str(value.value) for value in values if isinstance(value, ast.Constant) and value.value}
    return found


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_every_reason_of_refusal_is_explained():
    page = (ROOT / "shards/README.md").read_text()
    assert len(list_reasons()) > 20
    assert {reason for reason in list_reasons() if f"`{reason}`" not in page} == set()


def test_every_command_is_explained():
    page = (ROOT / "pipelines/README.md").read_text()
    assert {command for command in cli.COMMANDS if not re.search(rf"^##+ {command}$", page, re.MULTILINE)} == set()


def test_the_table_of_commands_has_each_with_its_function_and_config():
    page = (ROOT / "pipelines/README.md").read_text()
    table = page.partition("| command | function | config |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [re.findall(r"`([^`]+)`", line) for line in table]
    assert [command for command, *_ in rows] == list(cli.COMMANDS)
    for name in (name for _, *names in rows for name in names):
        place, _, last = name.rpartition(".")
        within = place if place.partition(".")[0] in FOLDERS else f"pipelines.{place}".rstrip(".")
        assert callable(getattr(importlib.import_module(within), last)), name


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_that_a_page_names_exist(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:shards|model|pipelines|deploy|tests)/[\w./-]*)`", text)
    named = [name for name in named if name != "deploy/kubernetes/overlays/site/kustomization.yaml"]  # the reader's own
    assert [name for name in named if not (ROOT / name).exists()] == []
    links = re.findall(r"\]\(([\w./-]+)\)", text)
    assert [link for link in links if not (ROOT / Path(page).parent / link).exists()] == []
    sources = re.findall(r"`([\w./-]+\.pyi?)`", text)  # `label_lists.py`, after the whole path of a file beside it
    assert [name for name in sources if not any(str(path).endswith(f"/{name}") for path in FILES)] == []
    modules = re.findall(r"(?<!\S)python -m ([\w.]+)", text)
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_flags_that_a_page_gives_them(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for command, words in re.findall(r"(?:^|[`$ ])sixray ([a-z-]+)( [^\n`|]*)", text, re.MULTILINE):
        flags = re.findall(r"(?<= )--[a-z][\w-]*", words.split(" -- ")[0])
        if command in cli.COMMANDS and flags:
            parser = importlib.import_module(f"pipelines.{command.replace('-', '_')}").make_parser()
            known = {name for action in parser._actions for name in action.option_strings}
            assert set(flags) <= known, command


@pytest.mark.parametrize("page", PAGES)
def test_make_has_the_targets_that_a_page_names(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z-]+)`", (ROOT / page).read_text())):
        assert f"\n{target}:" in makefile, target


@pytest.mark.slow  # trains a network
@pytest.mark.filterwarnings("default")
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    synth = ["synth", "--output", "demo/corpus", "--num-scans", "60", "--seed", "5", "--negatives-per-positive", "2"]
    small = ["--recipe", "demo", "--max-epochs", "1", "--image-size", "64"]
    assert cli.main(synth) == 0
    assert cli.main(["convert", "--input", "demo/corpus", "--output", "demo/dataset"]) == 0
    assert cli.main(["train", "--data", "demo/dataset", "--output", "demo/run", *small]) == 0
    capsys.readouterr()
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    assert set(ast.literal_eval(re.sub(r"np\.float64\(([^)]*)\)|nan", r"'\1'", capsys.readouterr().out))) == {
        *("Gun", "Knife", "Wrench", "Pliers", "Scissors")
    }
    assert "torch" in sys.modules
