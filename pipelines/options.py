"""How are command lines read? Project flags strictly, Beam's own options after a lone `--`, strictly too."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

OK, FINDINGS, WRONG_USAGE = 0, 1, 2
"""Exit codes: all fine; damage or too many refused records (the output is whole all the same); wrong usage."""


def make_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser that takes no abbreviation of a flag; its `--help` opens with `description`."""
    return argparse.ArgumentParser(
        prog=f"sixray {command}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def split_beam_options(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the project's flags and Beam's, which stand behind a lone `--`."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def fraction(text: str) -> float:
    """Return a flag's value in [0, 1]; argparse names the flag where it is not."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text}")
    return value


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Call a command's body and return its exit code: a ValueError is wrong usage or input, said in one line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        return main(sys.argv[1:] if argv is None else argv)
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USAGE
