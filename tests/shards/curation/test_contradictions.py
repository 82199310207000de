"""Contradictions are counted and handled by policy; a list of another release stops the run."""

import json
import random

import pytest

from shards.corpus.policy import Policy
from shards.curation import contradictions
from shards.curation.contradictions import Contradictions, check_contradictions, find_contradictions, sum_contradictions
from shards.shuffle import pack
from tests.corpora import SCORED, CorpusWriter, jpeg_bytes, make_corpus, reasons_of, rows_of
from tests.shards.plain_calls import CLASSES, convert_plainly


@pytest.fixture
def torn(tmp_path):
    """A corpus with one scan for each way of disagreeing, beside sound ones."""
    corpus = make_corpus(tmp_path / "c", num_train=12, num_test=3)
    corpus.add_scan("P70001", ["Gun"])
    corpus.add_annotation("P70001", [("Gun", 1, 1, 9, 9), ("Knife", 2, 2, 9, 9)])  # boxed_not_listed
    corpus.add_scan("P70002", ["Gun", "Knife"])
    corpus.add_annotation("P70002", [("Gun", 1, 1, 9, 9)])  # listed_not_boxed
    corpus.add_scan("P70003", ["Gun"])
    corpus.add_row("P70003", ["Knife"], subset="1000")  # lists_disagree
    corpus.add_scan("N70004")
    corpus.add_row("N70004", split="test")  # two_splits
    corpus.add_row("N70005")  # missing_image
    corpus.add_annotation("P70006", [("Gun", 1, 1, 9, 9)])  # annotation_without_image
    corpus.add_image("N70007")  # unlisted_image
    return corpus


KINDS = {
    "annotation_without_image": "P70006",
    "boxed_not_listed": "P70001",
    "listed_not_boxed": "P70002",
    "lists_disagree": "P70003",
    "missing_image": "N70005",
    "two_splits": "N70004",
    "unlisted_image": "N70007",
}


@pytest.mark.parametrize("policy", ["quarantine", "keep-list", "keep-boxes"])
def test_each_kind_is_counted_with_its_example_whatever_is_done_about_it(torn, tmp_path, policy):
    convert_plainly(torn.root, tmp_path / "ds", policy=Policy(on_contradiction=policy), seed=1)
    found = json.loads((tmp_path / "ds/dataset.json").read_text())["contradictions"]
    assert {kind: (item["count"], item["examples"][0]["key"]) for kind, item in found.items()} == {
        kind: (1, key) for kind, key in KINDS.items()
    }
    detail = found["boxed_not_listed"]["examples"][0]["detail"]
    assert detail == "the list says ['Gun'], the annotation says ['Gun', 'Knife']"


def test_a_corpus_of_one_mind_has_no_such_entry(tmp_path):
    convert_plainly(make_corpus(tmp_path / "c").root, tmp_path / "ds")
    assert "contradictions" not in json.loads((tmp_path / "ds/dataset.json").read_text())


def labels_and_boxes(root, key):
    (row,) = [row for row in rows_of(root) if row["key"] == key]
    return {name for name in SCORED if row["labels"][name] == 1}, {box["class"] for box in row["boxes"]}, row["split"]


def test_by_default_what_disagrees_is_refused(torn, tmp_path):
    convert_plainly(torn.root, tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {
        "P70001": "label_contradiction",
        "P70002": "label_contradiction",
        "P70003": "label_contradiction",
        "N70004": "split_contradiction",
        "N70005": "missing_image",
        "P70006": "missing_image",
    }


def test_the_list_can_decide_and_boxes_it_denies_go(torn, tmp_path):
    convert_plainly(torn.root, tmp_path / "ds", policy=Policy(on_contradiction="keep-list"))
    assert set(reasons_of(tmp_path / "ds").values()) == {"missing_image"}
    assert labels_and_boxes(tmp_path / "ds", "P70001") == ({"Gun"}, {"Gun"}, "train")
    assert labels_and_boxes(tmp_path / "ds", "P70002") == ({"Gun", "Knife"}, {"Gun"}, "train")
    assert labels_and_boxes(tmp_path / "ds", "P70003") == ({"Gun"}, {"Gun"}, "train")
    assert labels_and_boxes(tmp_path / "ds", "N70004") == (set(), set(), "test")


def test_the_boxes_can_decide(torn, tmp_path):
    convert_plainly(torn.root, tmp_path / "ds", policy=Policy(on_contradiction="keep-boxes"))
    assert labels_and_boxes(tmp_path / "ds", "P70001") == ({"Gun", "Knife"}, {"Gun", "Knife"}, "train")
    assert labels_and_boxes(tmp_path / "ds", "P70002") == ({"Gun"}, {"Gun"}, "train")


def test_another_policy_makes_the_shards_anew(torn, tmp_path):
    for policy in ("quarantine", "keep-list"):
        convert_plainly(torn.root, tmp_path / "ds", policy=Policy(on_contradiction=policy))
    convert_plainly(torn.root, tmp_path / "calm", policy=Policy(on_contradiction="keep-list"))
    assert rows_of(tmp_path / "ds") == rows_of(tmp_path / "calm")


def test_unlisted_images_can_be_refused_or_stop_the_run(torn, tmp_path):
    convert_plainly(torn.root, tmp_path / "ds", policy=Policy(on_unlisted="quarantine"))
    assert reasons_of(tmp_path / "ds")["N70007"] == "unlisted_image"
    with pytest.raises(ValueError, match=r"every image must be listed, got one that is not: .*N70007.jpg; see --on"):
        convert_plainly(torn.root, tmp_path / "other", policy=Policy(on_unlisted="stop"))


def test_missing_images_can_stop_the_run(torn, tmp_path):
    with pytest.raises(ValueError, match=r"every scan must have an image, got none for '.*70.*see --on-missing"):
        convert_plainly(torn.root, tmp_path / "ds", policy=Policy(on_missing="stop"))


def test_an_item_in_the_folder_of_negatives_is_a_contradiction(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for folder in ("negative", "positive"):
        (corpus.root / folder).mkdir()
        (corpus.root / folder / f"X-{folder}.jpg").write_bytes(jpeg_bytes(len(folder)))
        corpus.add_row(f"X-{folder}", ["Gun"])
    corpus.images.rmdir()
    manifest = convert_plainly(corpus.root, tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {"X-negative": "label_contradiction"}
    assert manifest.contradictions["folder_disagrees"]["count"] == 1


def of_another_release(tmp_path, num_wrong, num_right):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(num_wrong + num_right):
        corpus.add_scan(f"P{number:05d}", ["Gun"])
        if number < num_wrong:
            corpus.add_annotation(f"P{number:05d}", [("Wrench", 1, 1, 9, 9)])
    return corpus


def test_a_list_of_another_release_stops_the_run_before_anything_is_written(tmp_path):
    corpus = of_another_release(tmp_path, 20, 30)
    expected = (
        r"lists and boxes must agree on most scans, got 20 of 50 \(40.0%\) that contradict, more than 5.0% "
        r"\(P00000: the list says \['Gun'\], the annotation says \['Wrench'\]; P00001: .*; P00002: .*\); "
        r"the lists belong to another release of the corpus: .* --lists, or .* --max-contradiction-fraction 1"
    )
    with pytest.raises(ValueError, match=expected):
        convert_plainly(corpus.root, tmp_path / "ds")
    assert not (tmp_path / "ds").exists()
    manifest = convert_plainly(corpus.root, tmp_path / "ds", policy=Policy(max_contradiction_fraction=1))
    assert manifest.contradictions["boxed_not_listed"]["count"] == 20
    assert len(manifest.contradictions["boxed_not_listed"]["examples"]) == contradictions.MAX_EXAMPLES


@pytest.mark.parametrize(("num", "of", "stops"), [(19, 19, False), (20, 20, True), (20, 400, False), (21, 400, True)])
def test_a_few_mistakes_or_a_small_share_do_not_stop_it(num, of, stops):
    found = Contradictions(of, num, {"listed_not_boxed": num}, {"listed_not_boxed": (("P1", "x"),)})
    if stops:
        with pytest.raises(ValueError, match="lists and boxes must agree on most scans"):
            check_contradictions(found, Policy())
    else:
        assert check_contradictions(found, Policy())["listed_not_boxed"]["count"] == num


def test_sums_do_not_depend_on_the_order_of_their_parts():
    parts = [
        Contradictions(n, 1, {"a": n, f"k{n}": 1}, {"a": ((f"P{n}", "w"),), f"k{n}": (("x", "y"),)}) for n in range(9)
    ]
    whole = sum_contradictions(parts)
    assert (whole.num_compared, whole.num_contradicted, whole.counts["a"]) == (36, 9, 36)
    for seed in range(5):
        random.Random(seed).shuffle(parts)
        assert sum_contradictions([sum_contradictions(parts[:4]), sum_contradictions(parts[4:])]) == whole
    assert sum_contradictions([]) == Contradictions()


def test_an_annotation_that_cannot_be_read_is_left_to_its_shard(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=3, num_test=0)
    corpus.add_annotation("P00000", text=b"<annotation>")
    convert_plainly(corpus.root, tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {"P00000": "unreadable_xml"}
    assert find_contradictions(pack([]), CLASSES) == Contradictions()


@pytest.mark.parametrize(
    ("field", "value"),
    [("on_contradiction", "keep"), ("on_unlisted", "x"), ("on_missing", "keep"), ("max_contradiction_fraction", 2)],
)
def test_a_rule_that_cannot_be_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*, got '?{value}'?"):
        Policy(**{field: value})
