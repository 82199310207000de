"""Parse command lines strictly, run the body of a command, and turn its errors into messages and exit codes."""

import argparse
import builtins
import io
import logging
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from pipelines.runtime import interrupts, log
from pipelines.runtime.flags import add_flags
from shards.storage import mask_secrets

OK, FINDINGS, WRONG_USAGE, STOPPED, CRASHED, INTERRUPTED = 0, 1, 2, 3, 4, interrupts.INTERRUPTED
"""Exit codes: all fine; damage or too many refused records (the output is whole all the same); wrong usage or input;
stopped by the machine (disk full, permission lost, store out of reach), nothing unfinished under a final name; ended by
a bug or a machine at fault, with a traceback; interrupted by Ctrl-C."""


_OF_STEP = re.compile(r" \[while running '[^']+'\]\s*$")
"""What Beam puts behind the message of an error."""
MANY_CHOICES = 20
"""A flag with this many values or more names them in its help and nowhere else."""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a flag's default where it has one, and its values in place of a metavar only where they are few."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default not in ([], "")
        shown = super()._get_help_string(action) if has_default else action.help
        return f"{shown}; one of %(choices)s" if _has_many_choices(action) else shown

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if action.metavar is None and _has_many_choices(action):
            return lambda num_values: (default_metavar,) * num_values
        return super()._metavar_formatter(action, default_metavar)


class _StoreAction(argparse._StoreAction):
    """Takes a value once: of a flag given twice the last would win without a word."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        if self.option_strings and self.dest in parser.given:
            raise argparse.ArgumentError(self, "given twice; it takes one value")
        parser.given.add(self.dest)
        if self.dest == "output" and "::" in str(values):
            raise argparse.ArgumentError(self, f"must be a folder, got one in an archive or behind a cache: {values}")
        super().__call__(parser, namespace, values, option_string)


class _Parser(argparse.ArgumentParser):
    """Names an unknown flag before all else, and those of many values that are near to what was given.

    A value must not be empty, as it is where a shell's variable is not set.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.given: set[str] = set()
        for name in (None, "store"):
            self.register("action", name, _StoreAction)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        self.given = set()
        flags = [word.partition("=")[0] for word in words if word.startswith("--") and " " not in word]
        if unknown := [flag for flag in flags if flag not in self._option_string_actions]:
            near = get_close_matches(unknown[0], list(self._option_string_actions), n=1)
            at = next(at for at, word in enumerate(words) if word.partition("=")[0] == unknown[0])
            given = [*words[at : at + 1], *(word for word in words[at + 1 : at + 2] if not word.startswith("-"))]
            self.error(f"unrecognized arguments: {' '.join(given)}" + (f"; nearest is {near[0]}" if near else ""))
        for before, word in zip(["", *words], words, strict=False):
            if word == "" or (word.endswith("=") and word[:-1] in self._option_string_actions):
                self.error(f"argument {before or word[:-1]}: must not be empty")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"{self.prog}: error: {message}\n{self.format_usage()}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if _has_many_choices(action) and action.choices is not None and value not in action.choices:
            near = get_close_matches(str(value), list(map(str, action.choices)), n=5, cutoff=0.5)
            meant = f"nearest are {', '.join(near)}; " if near else ""
            message = f"invalid choice: {value!r}; {meant}`{self.prog} --help` names all {len(list(action.choices))}"
            raise argparse.ArgumentError(action, message)
        super()._check_value(action, value)


def _has_many_choices(action: argparse.Action) -> bool:
    return action.choices is not None and len(list(action.choices)) >= MANY_CHOICES


def make_parser(command: str, config_class: type, description: str) -> argparse.ArgumentParser:
    """Return a parser of the flags of a config; it takes no abbreviation, and its `--help` opens with `description`."""
    parser = _Parser(
        prog=f"sixray {command}", description=description, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    add_flags(parser, config_class)
    return parser


def split_beam_options(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the project's flags and Beam's, which follow a lone `--`."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def check_beam_options(words: Sequence[str]) -> None:
    """Refuse wrong options before anything is read; without any, Beam is not loaded, which takes a second.

    Raises:
        ValueError: Beam does not know an option.
    """
    if words:
        from pipelines.runtime.runners import make_beam_options

        make_beam_options(words)


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Call a command's body and return its exit code; an error that the user can mend is reported in one line."""
    logging.basicConfig(level=logging.WARNING, format=log.TEXT_FORMAT, stream=sys.stderr)
    # Beam logs an error with its traceback before it raises it; raised it is said once, below.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    log.use_format("text")  # until a flag says otherwise; a process may run several commands
    _keep_pandas_out()
    try:
        interrupts.raise_interrupts()
        return _report_errors(main, sys.argv[1:] if argv is None else argv)
    except BaseException as error:
        if not interrupts.is_interrupted() and not isinstance(error, KeyboardInterrupt):
            raise
        interrupts.report()
        return INTERRUPTED


class _NoPandas:
    """Finds no pandas."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _keep_pandas_out() -> None:
    """Let PyArrow look for pandas in vain: with the first scalar or array it loads it, 0.2 s, and no command uses it.

    What needs pandas, as `to_pandas` does, looks for it again.
    """
    if pyarrow := sys.modules.get("pyarrow"):
        sys.meta_path.insert(0, _NoPandas)  # type: ignore[arg-type]
        try:
            pyarrow.scalar(0)
        finally:
            sys.meta_path.remove(_NoPandas)  # type: ignore[arg-type]


def _report_errors(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    try:
        code = main(argv)
        sys.stdout.flush()
        return code
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        if interrupts.is_interrupted():
            raise
        log.status(f"error: {mask_secrets(_OF_STEP.sub('', str(error)))}", level="error")
        return WRONG_USAGE
    except Exception as error:
        if interrupts.is_interrupted():
            raise
        if isinstance(error, BrokenPipeError) and _is_stdout_closed():
            return OK
        is_of_step = isinstance(error, RuntimeError) and isinstance(find_step_error(str(error)), OSError)
        if not isinstance(error, OSError) and not is_of_step:
            return _crash()
        text = mask_secrets(str(error))
        log.status(f"error: {text}; when that is mended run the same command again, it resumes", level="error")
        return STOPPED


def _is_stdout_closed() -> bool:
    """Return whether the reader of stdout is gone, as `head` is; what is left in the buffer then goes nowhere."""
    try:
        file = sys.stdout.fileno()
    except io.UnsupportedOperation:  # not a file of the system's
        return False
    poll = select.poll()
    poll.register(file, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), file)
    return True


def _crash() -> int:
    # Python itself would exit with 1, the code of a whole output with findings.
    logging.getLogger(__name__).critical("ended by an error that is not foreseen", exc_info=True)
    return CRASHED


def find_step_error(text: str) -> Exception | None:
    """Return the ValueError or OSError that a step raised, as what it was; None if the text holds none.

    The embedded runner raises an OSError of a step as RuntimeError("OSError: [Errno 28] … [while running 'Step']"),
    with a traceback before it if a worker process raised it; other engines put pages of Java around it.
    """
    found = re.findall(r"^(\w+): (.*?) \[while running '([^']+)'", text, re.DOTALL | re.MULTILINE)
    if not found:
        return None
    name, message, step = found[-1]
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, (ValueError, OSError)):
        return kind(f"{message} (step {step})")
    return None


def find_cause(text: str) -> Exception:
    """Return what failed, from what an engine reports of a failed job.

    What no step raised (a lost machine, too few slots, too little memory) is an OSError: the same command may be run
    again. An error of a step that is neither ValueError nor OSError is a bug, and a RuntimeError.
    """
    if (error := find_step_error(text)) is not None:
        return error
    if "[while running '" in text:
        return RuntimeError(text)
    return OSError(f"job must run to its end on its engine, got: {text.strip().partition(chr(10))[0]}")
