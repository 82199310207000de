"""Hold the flags of every command: names, kinds, defaults, choices; help texts may change.

`python -m tests.golden.test_command_lines` writes the expectation anew, for a flag that was added on purpose.
"""

import importlib
from pathlib import Path

import pytest

from pipelines import cli

EXPECTED = Path(__file__).with_name("command_lines.txt")


def describe(command: str) -> str:
    """Return a line for each flag of a command, in the order of their names."""
    lines = []
    parser = importlib.import_module(f"pipelines.{command.replace('-', '_')}").make_parser()
    for action in parser._actions:
        default = list(action.default) if isinstance(action.default, (list, tuple)) else action.default
        facts = {
            "kind": type(action).__name__.strip("_"),
            "required": action.required,
            "nargs": action.nargs,
            "default": default or None if isinstance(default, list) else default,
            "choices": None if action.choices is None else list(action.choices),
            "metavar": action.metavar,
        }
        words = [f"{name}={value!r}" for name, value in facts.items() if value is not None and value is not False]
        lines.append("  " + " ".join([",".join(action.option_strings) or "(positional)", *words]))
    return "\n".join([f"sixray {command}", *sorted(lines), ""])


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_flags_of_a_command_are_what_they_were(command):
    expected = {block.split("\n", 1)[0]: block for block in EXPECTED.read_text().split("\n\n")}
    assert describe(command).strip() == expected[f"sixray {command}"].strip()


if __name__ == "__main__":
    EXPECTED.write_text("\n".join(map(describe, cli.COMMANDS)))
