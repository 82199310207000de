"""Test that the flag tables of pipelines/README.md are those of the parsers."""

from pipelines.cli import COMMANDS
from pipelines.flag_tables import README, fill_tables, list_tables


def test_the_tables_are_up_to_date():
    text = README.read_text()
    assert fill_tables(text) == text, "run `make docs`"


def test_every_command_has_a_section_with_its_table():
    text = README.read_text()
    assert sorted(list_tables(text)) == sorted(COMMANDS)
    assert [name for name in COMMANDS if f"## {name}\n" not in text] == []
