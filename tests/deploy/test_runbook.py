"""Tests of the runbook: it explains every alert, and its commands exist."""

import re
import shlex

from pipelines import convert, score
from pipelines.cli import COMMANDS
from pipelines.runtime import command_line
from pipelines.runtime.runners import make_beam_options
from tests.deploy.manifests import DEPLOY, alert_rules

TEXT = (DEPLOY / "README.md").read_text()


def test_every_alert_is_explained_and_no_other():
    explained = re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in alert_rules())
    named = set(re.findall(r"\bSixray[A-Z]\w+", TEXT))
    assert named == set(explained)


def test_the_namespace_is_there_before_anything_is_put_into_it():
    made = TEXT.index("kubectl create namespace sixray")
    assert made < min(found.start() for found in re.finditer("--namespace sixray|watching `sixray`", TEXT))


def test_what_is_applied_is_the_overlay_that_is_written():
    (written,) = re.findall(r"`(deploy/kubernetes/overlays/\w+)/kustomization\.yaml`", TEXT)
    assert set(re.findall(r"--kustomize (\S+?)`", TEXT)) == {written}


def test_every_command_is_one_that_there_is():
    commands = re.findall(r"(?<!namespace )\bsixray ([a-z]+) ", TEXT)
    assert len(commands) > 4 and set(commands) <= COMMANDS.keys()


def test_whole_command_lines_are_taken():
    lines = re.findall(r"^sixray (?:[^\n]*\\\n)*[^\n]*", TEXT, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        _, command, *words = shlex.split(line.replace("\\\n", " ").replace("$BEAM_OPTIONS", "--runner=FlinkRunner"))
        own, beam_words = command_line.split_beam_options(words)
        {"convert": convert, "score": score}[command].make_parser().parse_args(own)
        make_beam_options(beam_words)


def test_make_has_the_targets_that_are_named():
    makefile = (DEPLOY.parent / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)`?", TEXT)):
        assert f"\n{target}:" in makefile, target


def test_files_that_are_named_are_there():
    table = re.findall(r"^\| ((?:`[\w./-]+`(?:, )?)+) \|", TEXT, re.MULTILINE)
    names = [name for cell in table for name in re.findall(r"`([\w./-]+)`", cell)]
    assert len([name for name in names if (DEPLOY / name).exists()]) == 6
