"""Facts become records, and contradictions get their reason."""

import random

import pytest

from shards.corpus.facts import Fact, list_rows, list_source
from shards.corpus.layouts.registry import find_corpus
from shards.corpus.policy import Policy
from shards.corpus.records import ScanRef, join_facts
from shards.format.classes import load_class_set
from tests.corpora import HEADER, CorpusWriter, list_row

SCORED = load_class_set("sixray").scored
NEGATIVE = (0, 0, 0, 0, 0)


@pytest.fixture
def corpus(tmp_path):
    return CorpusWriter(tmp_path)


def list_facts(corpus, subset="all"):
    found = find_corpus(str(corpus.root), "sixray", subset)
    facts: list[Fact] = [fact for source in found.sources for fact in list_source(source, found, "")]
    for item in found.lists:
        facts += list_rows(item, SCORED)
    return found, facts


def join(corpus, subset="all", seed=None, **policy) -> list[ScanRef]:
    found, facts = list_facts(corpus, subset)
    if seed is not None:
        random.Random(seed).shuffle(facts)
    return list(join_facts(facts, found, subset, Policy(**policy)))


def outcome(corpus, subset="all"):
    return [(ref.key, ref.split, ref.reason) for ref in join(corpus, subset)]


def test_a_sound_scan_keeps_everything_known_about_it(corpus):
    corpus.add_scan("P00001", ("Knife",), split="test")
    (ref,) = join(corpus)
    root = corpus.root
    size = (corpus.images / "P00001.jpg").stat().st_size
    assert ref == ScanRef(
        "P00001", "test", f"{root}/JPEGImage/P00001.jpg", size, (0, 1, 0, 0, 0), f"{root}/Annotation/P00001.xml"
    )


def test_a_doubtful_label_is_kept_as_unknown(corpus):
    corpus.add_image("P00001")
    corpus.add_line(list_row("P00001", ["Gun"], doubtful=["Wrench"]))
    assert join(corpus)[0].labels == (1, 0, None, 0, 0)


def test_an_image_that_no_list_names_is_unlisted_not_lost(corpus):
    corpus.add_image("N1")
    corpus.add_row("N2")
    corpus.add_image("N2")
    assert outcome(corpus) == [("N1", "unlisted", ""), ("N2", "train", "")]
    assert join(corpus)[0].labels is None


def test_lists_and_annotations_may_write_a_name_in_other_case(corpus):
    corpus.add_image("P00001")
    corpus.add_row("p00001", ["Gun"])
    corpus.add_annotation("P00001", [("Gun", 1, 2, 20, 25)])
    for seed in range(4):
        (ref,) = join(corpus, seed=seed)
        assert (ref.key, ref.split, ref.labels, ref.reason) == ("P00001", "train", (1, 0, 0, 0, 0), "")
        assert ref.remarks == (("other_case", "it is written p00001"),)
        assert ref.annotation_url is not None


def test_two_images_whose_names_differ_in_case_stay_two_scans(corpus):
    for stem in ("P00001", "p00001"):
        corpus.add_image(stem)
    corpus.add_row("p00001", ["Gun"])
    corpus.add_row("P00001")
    found = [(ref.key, ref.labels, ref.remarks) for ref in join(corpus)]
    assert found == [("P00001", NEGATIVE, ()), ("p00001", (1, 0, 0, 0, 0), ())]


def test_a_listed_scan_without_an_image_is_missing(corpus):
    corpus.add_row("N1", split="test")
    (ref,) = join(corpus)
    list_url = f"{corpus.root}/ImageSet/10/test.csv"
    assert (ref.key, ref.split, ref.reason, ref.source_url) == ("N1", "test", "missing_image", list_url)
    assert ref.detail == f"no image file has this name; named by file://{list_url}"


def test_an_annotation_without_an_image_is_missing_too(corpus):
    corpus.add_annotation("P1", [("Gun", 1, 1, 2, 2)])
    (ref,) = join(corpus)
    assert (ref.key, ref.split, ref.reason) == ("P1", "unlisted", "missing_image")
    assert ref.source_url == f"{corpus.root}/Annotation/P1.xml"


def test_the_second_file_of_a_key_is_refused_whatever_folder_or_ending_it_has(corpus):
    corpus.add_image("N1", folder="b")
    corpus.add_image("N1", folder="a")
    corpus.add_image("N1", folder="a", suffix=".png")
    first, *others = join(corpus)
    assert (first.source_url, first.reason) == (f"{corpus.images}/a/N1.jpg", "")
    assert [(ref.source_url, ref.reason) for ref in others] == [
        (f"{corpus.images}/a/N1.png", "duplicate_key"),
        (f"{corpus.images}/b/N1.jpg", "duplicate_key"),
    ]
    assert others[0].detail == f"file://{corpus.images}/a/N1.jpg has this key already"


def test_a_link_to_a_folder_or_to_nothing_is_refused_by_name_rather_than_passed_over(corpus):
    (corpus.images / "more").symlink_to(corpus.root, target_is_directory=True)
    (corpus.images / "N1.jpg").symlink_to("nowhere.jpg")
    corpus.add_row("N1")
    corpus.add_image("N2")
    assert outcome(corpus) == [
        ("N1", "train", "not_a_file"),
        ("N2", "unlisted", ""),
        ("more", "unlisted", "not_a_file"),
    ]
    assert join(corpus)[0].detail.startswith("a link, not a file; links to folders are not followed")


def test_a_line_that_occurs_twice_is_one_record(corpus):
    corpus.add_image("N1")
    corpus.add_row("N1")
    corpus.add_row("N1")
    assert outcome(corpus) == [("N1", "train", "")]


def test_a_scan_in_both_train_and_test_is_in_neither(corpus):
    corpus.add_image("N1")
    corpus.add_row("N1", split="train")
    corpus.add_row("N1", split="test")
    assert outcome(corpus) == [("N1", "test", "split_contradiction")]
    folder = f"{corpus.root}/ImageSet/10"
    assert join(corpus)[0].detail == f"named by both {folder}/test.csv and {folder}/train.csv"


def test_another_split_in_a_larger_list_is_no_contradiction(corpus):
    corpus.add_image("N1")
    corpus.add_row("N1", split="train", subset="1000")
    corpus.add_row("N1", split="test", subset="10")
    assert outcome(corpus) == [("N1", "test", "")]
    assert outcome(corpus, "1000") == [("N1", "train", "")]


@pytest.mark.parametrize(("subset", "split"), [("10", "train"), ("10", "test"), ("1000", "train")])
def test_lists_that_label_a_scan_differently_contradict(corpus, subset, split):
    corpus.add_image("P1")
    corpus.add_row("P1", ["Gun"])
    corpus.add_row("P1", ["Knife"], subset=subset, split=split)
    (ref,) = join(corpus)
    assert ref.reason == "label_contradiction"
    assert "says 1,-1,-1,-1,-1" in ref.detail and "says -1,1,-1,-1,-1" in ref.detail


def test_a_contradiction_does_not_depend_on_the_order_of_facts(corpus):
    corpus.add_image("P1")
    for present in (["Gun"], ["Knife"], ["Wrench"], []):
        corpus.add_row("P1", present)
    assert len({tuple(join(corpus, seed=seed)) for seed in range(20)}) == 1


def test_two_annotations_of_a_key_are_refused(corpus):
    corpus.add_image("P1")
    corpus.add_annotation("P1")
    corpus.add_annotation("more/P1")
    (ref,) = join(corpus)
    assert ref.reason == "duplicate_annotation"
    folder = f"{corpus.root}/Annotation"
    assert ref.detail == f"{folder}/P1.xml and {folder}/more/P1.xml have this key"


def test_a_line_that_cannot_be_used_is_a_record_of_its_own(corpus):
    corpus.add_scan("N1")
    corpus.add_line("N1,what")
    corpus.add_line("garbage")
    corpus.add_line("garbage")
    assert outcome(corpus) == [
        ("N1", "train", ""),
        ("N1,what", "train", "bad_list_row"),
        ("garbage", "train", "bad_list_row"),
        ("garbage", "train", "bad_list_row"),
    ]
    assert join(corpus)[2].detail == "a line must have 6 cells, got 'garbage'"


def test_a_name_too_long_for_a_tar_has_a_short_key_and_stays_whole_in_its_source(corpus):
    corpus.add_scan("行李" * 20, ["Gun"])
    (ref,) = join(corpus)
    assert len(ref.key) <= 95 and ref.reason == "" and ref.labels and ref.annotation_url
    assert ref.source_url.endswith(f"/{'行李' * 20}.jpg")


@pytest.fixture
def many(corpus):
    corpus.add_scan("P1", ["Gun"])
    corpus.add_scan("N1")
    corpus.add_scan("N2", split="test", subset="100")
    corpus.add_scan("P3", ["Knife"], split="test", subset="1000")
    corpus.add_image("N4")
    corpus.add_annotation("P5", [("Gun", 1, 1, 2, 2)])
    corpus.add_row("P6", ["Gun"])
    return corpus


@pytest.mark.parametrize(
    ("subset", "keys"),
    [
        ("all", ["N1", "N2", "N4", "P1", "P3", "P5", "P6"]),
        ("positives", ["P1", "P6"]),
        ("10", ["N1", "P1", "P6"]),
        ("100", ["N2"]),
        ("1000", ["P3"]),
    ],
)
def test_a_subset_takes_what_its_lists_name(many, subset, keys):
    assert [ref.key for ref in join(many, subset)] == keys


def test_bad_lines_of_a_subset_are_named_in_it(many):
    many.add_line("garbage", subset="100")
    many.add_row("N1", subset="100")
    assert outcome(many, "100") == [("N1", "train", ""), ("N2", "test", ""), ("garbage", "train", "bad_list_row")]
    assert ("garbage", "train", "bad_list_row") not in outcome(many, "10")


def test_a_list_with_another_header_ends_the_listing(corpus):
    corpus.add_row("N1")
    (corpus.root / "ImageSet/10/train.csv").write_text("key;gun\n")
    with pytest.raises(ValueError, match=f"list must begin with the columns '{HEADER}', got 'key;gun'"):
        join(corpus)


def test_names_with_dots_and_slashes_stay_where_they_are(corpus):
    corpus.add_line(list_row("../../etc/passwd"))
    corpus.add_line(list_row("..%2F"))
    assert [ref.key for ref in join(corpus)] == ["%2E%2E%252F", "passwd"]
