"""Test that flags follow from the fields of a dataclass, and the config from the flags."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

import pytest

from pipelines.runtime.flags import NAMES, PAIRS, Flag, Fraction, add_flags, make_config, parse_datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A config within another."""

    is_strict: bool = False
    """Refuse more."""
    hidden: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A config that another is derived from."""

    folder: Annotated[str, Flag("folder")]
    """Where it is."""
    shard_bytes: int = 4
    """Bytes in a shard, 100 % of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Base):
    """A config with a field of each kind."""

    inputs: Annotated[tuple[str, ...], Flag("--input")]
    mode: Literal["fast", "exact"] = "fast"
    share: Fraction = 0.5
    limit: Annotated[int | None, Flag(metavar="N")] = None
    seeds: Annotated[tuple[int, ...], Flag(nargs="+")] = (0,)
    classes: Annotated[tuple[str, ...], NAMES] = ()
    data: Annotated[Mapping[str, str], Flag(metavar="NAME=DATASET")] = field(default_factory=dict)
    class_map: Annotated[Mapping[str, str], PAIRS] = field(default_factory=dict)
    since: Annotated[datetime | None, Flag(type=parse_datetime)] = None
    quick: Annotated[bool, Flag(action="store_true")] = False
    inner: Annotated[Inner, Flag(without=["hidden"])] = field(default_factory=Inner)


def make_parser():
    parser = argparse.ArgumentParser("x", allow_abbrev=False)
    add_flags(parser, Config)
    return parser


def parse(*words):
    return make_config(Config, make_parser().parse_args(["here", "--input=a", *words]))


def test_without_flags_the_defaults_of_the_fields_hold():
    assert parse() == Config(folder="here", inputs=("a",))


def test_each_kind_of_field_is_parsed():
    words = ["--input=b", "--shard-bytes=9", "--mode=exact", "--share=1", "--limit=3", "--seeds", "1", "2"]
    words += ["--classes=A, B", "--data=x=1", "--data=y=u?a=b", "--class-map=a=A,b=B", "--quick", "--is-strict"]
    assert parse(*words) == Config(
        folder="here",
        inputs=("a", "b"),
        shard_bytes=9,
        mode="exact",
        share=1.0,
        limit=3,
        seeds=(1, 2),
        classes=("A", "B"),
        data={"x": "1", "y": "u?a=b"},
        class_map={"a": "A", "b": "B"},
        quick=True,
        inner=Inner(is_strict=True),
    )
    assert parse("--no-is-strict", "--since=2026-03-01").since == datetime(2026, 3, 1).astimezone()


@pytest.mark.parametrize(
    "words", [["--classes=A,B"], ["--classes", "A", "B"], ["--classes=A", "--classes=B"], ["--classes", "A,B"]]
)
def test_a_list_has_one_form_in_all_commands(words):
    assert parse(*words).classes == ("A", "B")
    assert parse("--class-map=a=A", "--class-map=b=B,c=C").class_map == {"a": "A", "b": "B", "c": "C"}
    assert parse("--seeds", "1", "--seeds", "2", "3").seeds == (1, 2, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--share=-0.1"], "argument --share: must be in [0, 1], got -0.1"),
        (["--share=1.5"], "argument --share: must be in [0, 1], got 1.5"),
        (["--share=nan"], "argument --share: must be in [0, 1], got nan"),
        (["--share=one"], "argument --share: invalid fraction value: 'one'"),
        (["--mode=slow"], "argument --mode: invalid choice: 'slow'"),
        (["--limit=x"], "argument --limit: invalid int value: 'x'"),
        (["--hidden=1"], "unrecognized arguments: --hidden=1"),
        (["--since=soon"], "argument --since: must be an ISO date or time as 2026-03-01T18:30, got 'soon'"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_flag(words, message, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("word", ["x", "x=", "=1", "y=1"])
def test_what_is_no_pair_or_has_a_repeated_name_is_refused(word):
    with pytest.raises(ValueError, match=f"--data must be NAME=DATASET with each name once, got '{word}'"):
        parse("--data=y=0", f"--data={word}")


def test_a_list_of_pairs_is_refused_likewise():
    with pytest.raises(ValueError, match="--class-map must be NAME=VALUE with each name once, got 'b'"):
        parse("--class-map=a=A,b")


def test_the_docstring_under_a_field_is_the_help_of_its_flag():
    text = " ".join(make_parser().format_help().split())
    assert "folder Where it is " in text
    assert "--shard-bytes SHARD_BYTES Bytes in a shard, 100 % of them" in text
    assert "--is-strict, --no-is-strict Refuse more" in text


def test_a_field_without_default_is_required(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["here"])
    assert "the following arguments are required: --input" in capsys.readouterr().err
