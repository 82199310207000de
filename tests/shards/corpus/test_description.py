"""Test the keys of images of a corpus."""

import pytest

from shards.corpus.description import make_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("P00001.jpg", "P00001"),
        ("P00001.JPG", "P00001"),
        ("P00001.jfif", "P00001"),
        ("a.003.jpg", "a%2E003"),
        ("a b (1).jpg", "a%20b%20(1)"),
        ("100%.jpg", "100%25"),
        (".jpg", "%2Ejpg"),
        ("..jpg", "%2E"),
        ("noextension", "noextension"),
        ("Gerät.jpg", "Ger%C3%A4t"),
        ("tab\tnew\nline\x1b[0m.jpg", "tab%09new%0Aline%1B%5B0m"),
        ("x_-~()+,=@.jpg", "x_-~()+,=@"),
        ("\udce9t\udce9.jpg", "%E9t%E9"),
    ],
)
def test_a_file_name_gets_a_key_of_safe_characters(name, key):
    assert make_key(f"7/{name}", keeps_folders=False) == key
    assert make_key(name, keeps_folders=True) == key


def test_in_plain_images_the_folder_is_part_of_the_key():
    assert make_key("a/b.x/1.jpg", keeps_folders=True) == "a%2Fb%2Ex%2F1"
    assert make_key("a%2Fb/1.jpg", keeps_folders=True) == "a%252Fb%2F1"


def test_a_backslash_separates_folders():
    assert make_key("JPEGImage\\a.jpg", keeps_folders=False) == "a"
    assert make_key("7\\a.jpg", keeps_folders=True) == make_key("7/a.jpg", keeps_folders=True)
