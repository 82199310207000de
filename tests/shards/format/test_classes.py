"""Test class sets and their spellings."""

import pytest

from shards.format.classes import ClassSet, load_class_set


def test_hammer_is_known_but_not_scored():
    classes = load_class_set("sixray")
    assert classes.scored == ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
    assert classes.all == (*classes.scored, "Hammer")


def test_every_class_is_found_by_its_own_name_in_lower_case():
    classes = ClassSet(("A", "b"), ("C",), {"A": ("Aa", "aleph")})
    assert classes.spellings == {"a": "A", "b": "b", "c": "C", "aa": "A", "aleph": "A"}


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match=r"class set must be one of \['dvxray', 'opixray', 'sixray'\], got 'coco'"):
        load_class_set("coco")
