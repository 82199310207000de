"""Tests of the Dockerfile: hadolint, and the project's versions."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploy.local.versions import read_versions

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TEXT = DOCKERFILE.read_text()
VERSIONS = read_versions()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))
TARGETS = ("convert", "score-cpu", "score-gpu", "dataflow", "flink")


def test_hadolint_finds_nothing():
    found = subprocess.run(["hadolint", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("name", re.findall(r"^ARG (\w+(?<!_IMAGE))=", TEXT, re.MULTILINE))
def test_versions_are_those_of_the_one_file(name):
    (value,) = re.findall(rf"^ARG {name}=(.*)", TEXT, re.MULTILINE)
    if name == "UV_VERSION":
        assert f"UV_VERSION := {value}\n" in (ROOT / "Makefile").read_text()
    else:
        assert value == VERSIONS[name]


def test_beam_is_the_one_that_is_locked():
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert [one["version"] for one in packages if one["name"] == "apache-beam"] == [VERSIONS["BEAM_VERSION"]]


def test_python_is_one_that_the_project_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"].startswith(f">={VERSIONS['PYTHON_VERSION']}")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_ends_as_a_normal_user(target):
    *_, user = re.findall(r"^USER (\S+)", STAGES[target], re.MULTILINE)
    assert user.partition(":")[0] not in ("root", "0")


def test_only_scoring_installs_pytorch():
    assert "--extra model" not in STAGES["build"] + STAGES["build-convert"] + STAGES["build-dataflow"]
    assert "--extra model" in STAGES["build-score"]
    for target, source in (("convert", "convert"), ("score-cpu", "score"), ("score-gpu", "score")):
        assert f"COPY --from=build-{source} " in STAGES[target]


def test_every_install_takes_what_is_locked():
    syncs = re.findall(r"uv sync [^\n]*", TEXT)
    assert len(syncs) > 4 and all("--locked --no-dev" in words for words in syncs)


def test_workers_start_by_beams_own_boot():
    assert "COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/boot" in STAGES["runtime"]
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in STAGES["runtime"]


def test_copied_files_are_there():
    for words in re.findall(r"^COPY (?!--)(.*)$", TEXT, re.MULTILINE):
        *sources, _ = words.split()
        assert all((ROOT / source).exists() for source in sources), words
