"""Derive the flags of a command from the dataclass of its config, and make the config of what was given.

A field `shard_bytes: int = 4` is the flag `--shard-bytes` with its default; the docstring under the field is its help.
The type says the rest: `Literal` has choices, `bool` a `--no-` form, a tuple may be given repeatedly, a mapping takes
NAME=VALUE repeatedly, a dataclass gives the flags of its own fields. `Annotated[T, Flag(...)]` says what differs.
"""

import argparse
import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


class Flag:
    """What a field's flag has beside what follows from its type.

    Args:
        name: of the flag, unless it follows from the field's; a name without dashes makes a positional argument.
        without: fields of a nested dataclass that have no flag.
        settings: of `ArgumentParser.add_argument`.
    """

    def __init__(self, name: str = "", *, without: Iterable[str] = (), **settings: Any) -> None:
        self.name = name
        self.without = frozenset(without)
        self.settings = settings


class ExtendAction(argparse.Action):
    """Collects the values of a flag however they are given: several words, `A,B` as one word, the flag repeatedly."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Add the values to those already given."""
        given = getattr(namespace, self.dest)
        kept = [] if given is self.default else given
        words = values if isinstance(values, list) else [values]
        more = [part for word in words for part in (word if isinstance(word, tuple) else (word,))]
        setattr(namespace, self.dest, [*kept, *more])


def fraction(text: str) -> float:
    """Return a number in [0, 1]."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text}")
    return value


def parse_datetime(text: str) -> datetime:
    """Return an ISO date or time, local if it names no zone."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be an ISO date or time as 2026-03-01T18:30, got {text!r}") from error


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names of a list `A,B,C`."""
    return tuple(name.strip() for name in text.split(","))


def parse_pairs(words: Iterable[str], flag: str, form: str) -> dict[str, str]:
    """Return the values of `NAME=VALUE` words by name; ValueError if one is no such pair or a name is repeated."""
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value) or name in pairs:
            raise ValueError(f"{flag} must be {form} with each name once, got {word!r}")
        pairs[name] = value
    return pairs


Fraction = Annotated[float, Flag(type=fraction)]
NAMES = Flag(nargs="+", type=parse_names, metavar="NAME")
"""A list of names: `A,B`, `A B`, or the flag repeatedly."""
PAIRS = Flag(action=ExtendAction, type=parse_names)
"""A mapping given as `a=A,b=B` or by the flag repeatedly."""


def add_flags(parser: argparse.ArgumentParser, config_class: type, without: Iterable[str] = ()) -> None:
    """Add the flags of a dataclass to a parser."""
    docs = _read_field_docs(config_class)
    for field, hint, flag in _list_options(config_class):
        if field.name in without:
            continue
        if is_dataclass(hint):
            add_flags(parser, hint, flag.without)  # type: ignore[arg-type]  # a class, not an object
            continue
        settings = {"help": docs.get(field.name, "").replace("%", "%%")} | _settings_of(hint, flag) | flag.settings
        is_required = field.default is MISSING and field.default_factory is MISSING
        if flag.name and not flag.name.startswith("-"):
            parser.add_argument(field.name, **settings)
            continue
        default = None if is_required else _default_of(field)
        name = flag.name or f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, dest=field.name, required=is_required, default=default, **settings)


def make_config(config_class: type[Config], flags: argparse.Namespace) -> Config:
    """Return the config that the flags of `add_flags` ask for.

    Raises:
        ValueError: the values do not make a config.
    """
    values: dict[str, Any] = {}
    for field, hint, flag in _list_options(config_class):
        if is_dataclass(hint):
            values[field.name] = make_config(hint, flags)  # type: ignore[arg-type]
        elif hasattr(flags, field.name):
            value = getattr(flags, field.name)
            if get_origin(hint) is tuple:
                value = tuple(value or ())
            elif get_origin(hint) is Mapping:
                name = flag.name or f"--{field.name.replace('_', '-')}"
                value = parse_pairs(value, name, flag.settings.get("metavar", "NAME=VALUE"))
            values[field.name] = value
    return config_class(**values)


def _list_options(config_class: type) -> list[tuple[Field[Any], Any, Flag]]:
    """Return the fields of a dataclass, their types without None, and what is said of their flags."""
    hints = get_type_hints(config_class, include_extras=True)
    return [(field, *_split_hint(hints[field.name])) for field in fields(config_class)]


def _split_hint(hint: Any) -> tuple[Any, Flag]:
    if get_origin(hint) is Annotated:
        inner, flag = get_args(hint)
        return _split_hint(inner)[0], flag
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (arg for arg in get_args(hint) if arg is not NoneType)
        return _split_hint(hint)
    return hint, Flag()


def _settings_of(hint: Any, flag: Flag) -> dict[str, Any]:
    if "action" in flag.settings:
        return {}
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        repeated = {"action": ExtendAction if "nargs" in flag.settings else "append"}
        return ({} if "type" in flag.settings else _settings_of(args[0], Flag())) | repeated
    if origin is Mapping:
        return {"action": "append"}
    if origin is Literal:
        return {"choices": args}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {} if hint is str or "choices" in flag.settings else {"type": hint}


def _default_of(field: Field[Any]) -> Any:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return list(value) if isinstance(value, (tuple, Mapping)) else value


@cache
def _read_field_docs(config_class: type) -> dict[str, str]:
    """Return the docstrings under the fields of a dataclass and of those it is derived from, without a last period."""
    docs: dict[str, str] = {}
    for cls in reversed([cls for cls in config_class.__mro__ if is_dataclass(cls)]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for item, below in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(item, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(item.target, ast.Name):
                docs[item.target.id] = " ".join(str(ast.literal_eval(below.value)).split()).removesuffix(".")
    return docs
