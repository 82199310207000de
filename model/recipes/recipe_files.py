"""Read and write a recipe as a TOML file: the fields of `TrainConfig` and of the dataclasses within it.

A dataclass is a table. Where a field may hold one of several, the table's key `name` is the class: `name = "AdamW"`. A
field that is absent has its default; one that is None is left out.
"""

import math
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import tomli_w

from model.recipes.registry import RECIPES
from model.training.config import LOSSES, TrainConfig
from model.training.loss_base import Loss
from shards import storage

SUFFIX = ".toml"
_NAME = "name"
_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a string"}


def load_recipe(name: str) -> TrainConfig:
    """Return the config of a recipe: one of `RECIPES`, or of a file that ends with `.toml`, any fsspec URL.

    Raises:
        ValueError: there is no such recipe or file, or the file is not a recipe.
    """
    if name.endswith(SUFFIX):
        try:
            return parse_recipe(storage.read_bytes(name), name)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ValueError(
                f"recipe must be a file, got none ({name}); `sixray train --print-recipe` writes one"
            ) from error
    if name not in RECIPES:
        raise ValueError(f"recipe must be a file *{SUFFIX} or one that `sixray train --help` names, got {name!r}")
    return RECIPES[name]()


def parse_recipe(content: bytes, where: str) -> TrainConfig:
    """Return the config that a TOML document holds; `format_recipe` writes it.

    Raises:
        ValueError: it is not TOML; a field is unknown, absent or of another type; or the values do not fit together.
    """
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as error:  # of the decoding too
        raise ValueError(f"recipe must be TOML, got what cannot be read as such ({where}): {error}") from error
    config: TrainConfig = _make(TrainConfig, document, "", where)
    return config


def format_recipe(config: TrainConfig) -> str:
    """Return the TOML document of a config, every field but those that are None."""
    return tomli_w.dumps(_list_values(config))


def _list_values(config: Any) -> dict[str, Any]:
    hints = get_type_hints(type(config))
    document: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            is_one_of_several = len(_classes(hints[field.name])) > 1
            named = {_NAME: type(value).__name__} if is_one_of_several else {}
            document[field.name] = named | _list_values(value)
        elif value is not None:
            document[field.name] = list(value) if isinstance(value, tuple) else value
    return document


def _make(config_class: type, table: dict[str, Any], path: str, where: str) -> Any:
    """Return an object of a dataclass; `path` is that of its table, with a last dot, empty at the top."""
    known = [field.name for field in fields(config_class)]
    for name in table:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            remedy = f"; nearest is {path}{near[0]}" if near else ""
            raise ValueError(
                f"fields of {config_class.__name__} must be of {', '.join(known)}, got {path}{name} ({where}){remedy}"
            )
    for field in fields(config_class):
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{path}{field.name} must be given, got none ({where})")
    hints = get_type_hints(config_class)
    values = {name: _parse(hints[name], value, f"{path}{name}", where) for name, value in table.items()}
    try:
        return config_class(**values)
    except ValueError as error:
        raise ValueError(f"{error} ({where})") from error


def _parse(hint: Any, value: Any, path: str, where: str) -> Any:
    if classes := _classes(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be a table, got {value!r} ({where})")
        if len(classes) == 1:
            return _make(next(iter(classes.values())), value, f"{path}.", where)
        name = value.get(_NAME)
        if not isinstance(name, str) or name not in classes:
            raise ValueError(f"{path}.{_NAME} must be one of {', '.join(classes)}, got {name!r} ({where})")
        return _make(classes[name], {key: of for key, of in value.items() if key != _NAME}, f"{path}.", where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{path} must be a list, got {value!r} ({where})")
        return tuple(_parse(get_args(hint)[0], item, path, where) for item in value)
    (kind,) = (part for part in _alternatives(hint) if part is not NoneType)
    if kind is float and type(value) is int and abs(value) <= 2**53:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{path} must be {_WORDS[kind]}, got {value!r} ({where})")
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _classes(hint: Any) -> dict[str, type]:
    """Return the dataclasses that a field may hold, by name."""
    classes: tuple[Any, ...] = LOSSES if hint is Loss else _alternatives(hint)
    return {of.__name__: of for of in classes if is_dataclass(of)}  # type: ignore[union-attr,misc]
