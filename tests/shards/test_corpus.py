"""Are the parts of a corpus found, and does every file name get a key that readers of tars understand?"""

import re
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.corpus import (
    Corpus,
    ListFile,
    encode_key,
    find_corpus,
    hash_key,
    key_problem,
    make_key,
    place_in,
    printable,
)
from shards.tar import MAX_KEY_BYTES
from tests.corpora import CorpusWriter, make_corpus

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


def test_the_release_layout_is_found(tmp_path):
    corpus = make_corpus(tmp_path)
    corpus.add_row("P00000", subset="1000")
    assert find_corpus(str(tmp_path), "auto", "all") == Corpus(
        "sixray",
        f"{tmp_path}/JPEGImage",
        f"{tmp_path}/Annotation",
        tuple(
            ListFile(f"{tmp_path}/ImageSet/{subset}/{split}.csv", subset, split)
            for subset in ("10", "1000")
            for split in ("train", "test")
        ),
    )


def test_folders_in_the_plural_are_found(tmp_path):
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name).mkdir()
    found = find_corpus(str(tmp_path), "auto", "all")
    assert (found.images_url, found.annotations_url, found.lists) == (
        f"{tmp_path}/JPEGImages",
        f"{tmp_path}/Annotations",
        (),
    )


@pytest.mark.parametrize("folders", [[], ["pictures"], ["JPEGImage"], ["Annotation"]])
def test_any_other_folder_holds_plain_images(tmp_path, folders):
    for name in folders:
        (tmp_path / name).mkdir()
    assert find_corpus(str(tmp_path), "auto", "all") == Corpus("images", str(tmp_path), None, ())


def test_the_release_layout_can_be_taken_for_plain_images(tmp_path):
    make_corpus(tmp_path)
    assert find_corpus(str(tmp_path), "images", "all") == Corpus("images", str(tmp_path), None, ())


@pytest.mark.parametrize(("subset", "lists"), [("positives", ("10",)), ("10", ("10",)), ("100", ("100",))])
def test_a_subset_reads_its_own_lists_alone(tmp_path, subset, lists):
    corpus = CorpusWriter(tmp_path)
    for name in ("10", "100", "1000"):
        corpus.add_row("P00001", subset=name)
    found = find_corpus(str(tmp_path), "auto", subset)
    assert [(item.subset, item.split) for item in found.lists] == [(n, s) for n in lists for s in ("train", "test")]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"^corpus must be a folder, got none there \({tmp_path}/absent\)$"):
        find_corpus(f"{tmp_path}/absent", "auto", "all")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="corpus must be a folder"):
        find_corpus(f"{tmp_path}/file", "auto", "all")
    with pytest.raises(ValueError, match="SIXray corpus must have a folder JPEGImage or JPEGImages, got none"):
        find_corpus(str(tmp_path), "sixray", "all")
    with pytest.raises(ValueError, match="subset must be 'all' for a corpus without lists, got '10'"):
        find_corpus(str(tmp_path), "auto", "10")


@pytest.mark.parametrize(("subset", "folder"), [("100", "100"), ("1000", "1000"), ("positives", "10")])
def test_a_subset_without_its_lists_is_refused(tmp_path, subset, folder):
    (tmp_path / "JPEGImage").mkdir()
    (tmp_path / "Annotation").mkdir()
    expected = rf"subset '{subset}' must have lists train.csv and test.csv, got none \({tmp_path}/ImageSet/{folder}\)"
    with pytest.raises(ValueError, match=expected):
        find_corpus(str(tmp_path), "auto", subset)


def test_a_subset_with_one_of_its_lists_is_refused(tmp_path):
    CorpusWriter(tmp_path).add_row("P00001")
    (tmp_path / "ImageSet/10/test.csv").unlink()
    with pytest.raises(ValueError, match=r"subset '10' must have lists train.csv and test.csv, got train.csv \("):
        find_corpus(str(tmp_path), "auto", "10")
    assert len(find_corpus(str(tmp_path), "auto", "all").lists) == 1


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
        ("a\\b.jpg", "a%5Cb"),
    ],
)
def test_a_file_name_gets_a_key_of_safe_characters(name, key):
    assert make_key(Corpus("sixray", "/c/JPEGImage", None, ()), f"/c/JPEGImage/7/{name}") == key
    assert make_key(Corpus("images", "/c", None, ()), f"/c/{name}") == key


def test_in_plain_images_the_folder_is_part_of_the_key():
    corpus = Corpus("images", "/c", None, ())
    assert make_key(corpus, "/c/a/b.x/1.jpg") == "a%2Fb%2Ex%2F1"
    assert make_key(corpus, "/c/a%2Fb/1.jpg") == "a%252Fb%2F1"


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_every_key_is_safe_and_names_one_stem_alone(stem):
    key = encode_key(stem)
    assert re.fullmatch(r"[A-Za-z0-9_~()+,=@%-]+", key)
    assert urllib.parse.unquote(key) == stem


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_stems_never_share_a_key(stems):
    assert encode_key(stems[0]) != encode_key(stems[1])


def test_a_key_that_a_tar_cannot_hold_is_a_problem():
    assert key_problem("k" * MAX_KEY_BYTES) == ""
    assert key_problem("k" * 96) == "a key must have at most 95 bytes, got 96"


def test_the_keyed_hash_is_that_of_format_1():
    # A dataset's shards follow from it: another value is another format.
    assert [hash_key(key) for key in ("P00001", "N0000002")] == [14122169664133593107, 1240745512643056581]


@settings(max_examples=200)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 10_000))
def test_ranges_of_hashes_are_in_order_and_within_bounds(one, other, num_parts):
    low, high = sorted((one, other))
    assert 0 <= place_in(low, num_parts) <= place_in(high, num_parts) < num_parts


def test_ranges_of_hashes_are_equally_full():
    counts = [0] * 8
    for number in range(8000):
        counts[place_in(hash_key(f"N{number:07d}"), 8)] += 1
    assert all(850 < count < 1150 for count in counts)


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("a\x1b[2Jb\nc\udce9\x9bä") == "a\\x1b[2Jb\\x0ac\\udce9\\x9bä"
