"""Test that command lines are parsed strictly and errors are reported in one line."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag

RECIPES = [f"chr_resnet{depth}_sixray10" for depth in range(70)]


@dataclass(kw_only=True)
class Config:
    """Flags of a command."""

    recipe: Annotated[str | None, Flag(choices=RECIPES)] = None
    """The recipe."""
    size: Literal["small", "large"] | None = None
    output: str = ""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ([], [])),
        (["--input", "x"], (["--input", "x"], [])),
        (["--input", "x", "--"], (["--input", "x"], [])),
        (["a", "--", "--runner=X", "--", "b"], (["a"], ["--runner=X", "--", "b"])),
        (["--", "--parallelism=2"], ([], ["--parallelism=2"])),
    ],
)
def test_beams_options_stand_behind_the_first_lone_dashes(argv, expected):
    assert command_line.split_beam_options(argv) == expected


def test_an_abbreviated_flag_is_unknown(capsys):
    parser = command_line.make_parser("x", Config, "Does x.")
    with pytest.raises(SystemExit) as leaving:
        parser.parse_args(["--out=a"])
    assert leaving.value.code == command_line.WRONG_USAGE
    assert "sixray x: error: unrecognized arguments: --out=a" in capsys.readouterr().err


def refuse(words, capsys):
    parser = command_line.make_parser("x", Config, "Does x.")
    with pytest.raises(SystemExit) as leaving:
        parser.parse_args(words)
    printed = capsys.readouterr()
    return leaving.value.code, printed.out + printed.err


def test_a_misspelt_one_of_many_values_brings_the_nearest_and_not_all(capsys):
    code, printed = refuse(["--recipe", "chr_resnet34_sixray100"], capsys)
    assert code == command_line.WRONG_USAGE
    assert "argument --recipe: invalid choice: 'chr_resnet34_sixray100'; nearest are chr_resnet34_sixray10, " in printed
    assert "; `sixray x --help` names all 70" in printed
    assert printed.count("chr_resnet") == 6
    assert "--recipe RECIPE" in printed and "--size {small,large}" in printed


def test_a_value_that_is_near_to_none_points_to_the_help_which_names_all(capsys):
    code, printed = refuse(["--recipe", "@"], capsys)
    assert "error: argument --recipe: invalid choice: '@'; `sixray x --help` names all 70\n" in printed
    code, printed = refuse(["--help"], capsys)
    assert (code, printed.count("chr_resnet")) == (command_line.OK, 70)
    assert "The recipe; one of chr_resnet0_sixray10, " in " ".join(printed.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe=a", "--sise=large"], "unrecognized arguments: --sise=large; nearest is --size\n"),
        (["--size=large", "--size", "small"], "argument --size: given twice; it takes one value\n"),
        (["--output", ""], "argument --output: must not be empty\n"),
        (["--output="], "argument --output: must not be empty\n"),
        (["--output=a.zip::b"], "argument --output: must be a folder, got one in an archive or behind a cache: a.zip"),
    ],
)
def test_a_flag_that_is_misspelt_repeated_or_empty_is_named_first(words, message, capsys):
    code, printed = refuse(words, capsys)
    assert code == command_line.WRONG_USAGE
    assert printed.startswith(f"sixray x: error: {message}")


def test_few_values_are_all_named(capsys):
    assert "invalid choice: 'huge' (choose from 'small', 'large')" in refuse(["--size", "huge"], capsys)[1]


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, NotADirectoryError])
def test_wrong_input_is_said_in_one_line(error, capsys):
    def main(argv):
        raise error(f"what must be, got {argv}")

    def of_step(argv):
        raise error(f"what must be, got {argv} [while running 'ListFacts']")

    assert command_line.run_command(of_step, ["a"]) == command_line.WRONG_USAGE
    assert capsys.readouterr().err == "error: what must be, got ['a']\n"
    assert command_line.run_command(main, ["a"]) == command_line.WRONG_USAGE
    assert capsys.readouterr().err == "error: what must be, got ['a']\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError("No space left on device"),
        PermissionError("no access"),
        ConnectionResetError("reset"),
        RuntimeError("OSError: [Errno 28] No space left\non device [while running 'WriteShard']"),
        RuntimeError("PermissionError: [Errno 13] no [while running 'ListFacts-ptransform-12']"),
    ],
)
def test_what_the_machine_stopped_is_said_in_one_line_with_the_remedy(error, capsys):
    def main(argv):
        raise error

    assert command_line.run_command(main, []) == command_line.STOPPED == 3
    expected = f"error: {error}; when that is mended run the same command again, it resumes\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("bug"),
        RuntimeError("bug"),
        RuntimeError("KeyError: 'bug' [while running 'WriteShard']"),
        RuntimeError("print: bug [while running 'WriteShard']"),
        RuntimeError("OSError: bug, but in no step"),
    ],
)
def test_a_bug_is_dressed_up_as_nothing_else_and_has_a_code_of_its_own(error, caplog):
    def main(argv):
        raise error

    assert command_line.run_command(main, []) == command_line.CRASHED == 4
    assert "Traceback" in caplog.text and f"{type(error).__name__}: {error}" in caplog.text


def test_without_words_those_of_the_process_are_taken(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sixray", "one", "two"])
    seen = []

    def main(argv):
        seen.extend(argv)
        return command_line.FINDINGS

    assert command_line.run_command(main, None) == 1
    assert seen == ["one", "two"]


def test_an_interrupted_command_ends_with_130_and_one_line(capsys):
    def main(argv):
        raise KeyboardInterrupt

    assert command_line.run_command(main, []) == command_line.INTERRUPTED == 130
    assert capsys.readouterr().err == "error: interrupted; run the same command again, it resumes\n"


def test_a_reader_of_stdout_that_goes_away_ends_a_command_quietly():
    program = (
        "import sys\n"
        "from pipelines.runtime.command_line import run_command\n"
        "sys.exit(run_command(lambda argv: [print('line') for _ in range(100_000)] and 0, []))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == b"line\n"
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_a_broken_connection_that_is_not_stdout_is_an_error_of_the_machine(capsys):
    def main(argv):
        raise BrokenPipeError("store is gone")

    assert command_line.run_command(main, []) == command_line.STOPPED
    assert "error: store is gone; when that is mended" in capsys.readouterr().err


def test_a_command_loads_no_pandas_but_where_it_asks_for_it():
    script = (
        "import sys, pyarrow as pa; from pipelines.runtime.command_line import run_command; loaded = []\n"
        "def main(argv):\n"
        "    for make in (lambda: pa.array(['a']), lambda: pa.table({'a': [1]}).to_pandas()):\n"
        "        make(); loaded.append('pandas' in sys.modules)\n"
        "    return 0\n"
        "print(run_command(main, []), loaded)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0 [False, True]\n"
