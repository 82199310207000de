"""Test that every command is found by its name."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

from pipelines import cli


def test_a_command_gets_the_words_behind_it(monkeypatch):
    from pipelines import info

    seen = []

    def main(argv):
        seen.append(argv)
        return 1

    monkeypatch.setattr(info, "main", main)
    assert cli.main(["info", "DATASET", "--json"]) == 1
    assert seen == [["DATASET", "--json"]]


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_the_usage_names_every_command(words, capsys):
    assert cli.main(words) == (0 if words else 2)
    out = capsys.readouterr().out
    assert out.startswith("usage: sixray COMMAND [FLAGS] [-- BEAM_OPTIONS]")
    assert all(f"  {name:<18} {what}" in out for name, what in cli.COMMANDS.items())


def test_the_version_is_that_of_the_installed_software(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sixray {importlib.metadata.version('sixray-pipeline')}\n"


@pytest.mark.parametrize("word", ["convertt", "Convert", "--input", "beam", "../convert"])
def test_an_unknown_command_ends_with_2_and_names_the_known_ones(word, capsys):
    assert cli.main([word]) == 2
    assert capsys.readouterr().err == f"error: command must be one of {', '.join(cli.COMMANDS)}, got {word!r}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_module(command):
    assert importlib.util.find_spec(f"pipelines.{command.replace('-', '_')}") is not None


@pytest.mark.parametrize("command", ["convert", "verify", "info"])
def test_help_opens_with_what_the_command_does(command, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main([command, "--help"])
    assert leaving.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: sixray {command} ")
    assert "show this help message" in out


def test_the_exit_code_of_a_command_is_that_of_the_process(tmp_path):
    words = [sys.executable, "-m", "pipelines.cli", "info", str(tmp_path)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stdout == "" and found.stderr.startswith("error: folder must hold dataset.json")
