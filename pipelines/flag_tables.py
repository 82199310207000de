"""Write the flag tables of pipelines/README.md from the parsers of the commands: `make docs`."""

import argparse
import importlib
import re
from pathlib import Path

from pipelines.cli import COMMANDS
from pipelines.runtime.command_line import MANY_CHOICES

README = Path(__file__).with_name("README.md")
_TABLE = re.compile(r"(<!-- flags of (\S+) -->\n).*?(<!-- end of flags -->)", re.DOTALL)


def fill_tables(text: str) -> str:
    """Return a text with the flag table of each command between its markers."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{_format_table(found[2])}\n{found[3]}", text)


def _format_table(command: str) -> str:
    parser = importlib.import_module(f"pipelines.{command.replace('-', '_')}").make_parser()
    rows = [_format_row(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    return "\n".join(["| flag | default | meaning |", "|---|---|---|", *rows, ""])


def _format_row(action: argparse.Action) -> str:
    name = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.metavar or action.dest.upper()}`"
    if isinstance(action.default, list):
        default = " ".join(map(str, action.default))
    else:
        default = "" if action.default is None else str(action.default)
    if action.nargs == 0:  # a switch
        default = "off"
    shown = f"`{default}`" if default else "required" if action.required else ""
    meaning = (action.help or "").replace("%%", "%")
    choices = list(map(str, action.choices or ()))
    if choices and len(choices) < MANY_CHOICES:
        meaning += f" ({', '.join(f'`{choice}`' for choice in choices)})"
    return f"| {name} | {shown} | {meaning} |".replace("<", "&lt;")


def main() -> None:
    """Write the tables anew."""
    README.write_text(fill_tables(README.read_text()))


def list_tables(text: str) -> list[str]:
    """Return the commands whose tables a text has."""
    return [found[2] for found in _TABLE.finditer(text) if found[2] in COMMANDS]


if __name__ == "__main__":
    main()
