"""Class folders are found, and each image becomes a fact of one class or a refusal."""

from typing import Any

import pytest

from shards.corpus.description import Source
from shards.corpus.facts import ImageFact, ProblemFact, RowFact
from shards.corpus.layouts.imagefolder import list_class_folders
from shards.corpus.layouts.layout import Parts
from shards.corpus.layouts.registry import find_corpus
from shards.format.classes import ClassSet, make_class_set
from tests.corpora import jpeg_bytes

CAT, DOG, EEL = "n02123045", "n02099601", "n01440764"


def add(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg_bytes())


def test_ilsvrc2012_is_found_by_the_names_of_its_folders(tmp_path):
    add(tmp_path, f"train/{CAT}/{CAT}_1.JPEG", f"train/{EEL}/{EEL}_1.JPEG", f"val/{DOG}/ILSVRC2012_val_00000001.JPEG")
    found = find_corpus(str(tmp_path), "auto", "all")
    assert found.layout == "imagefolder"
    assert found.sources == tuple(Source("images", f"{tmp_path}/{split}", split=split) for split in ("train", "val"))
    assert found.class_names == (EEL, DOG, CAT)
    assert found.why == "layout imagefolder: images in train, val; the 3 folders in them are the classes"


def test_folders_of_other_names_are_classes_only_where_that_is_asked_for(tmp_path):
    add(tmp_path, "train/cat/1.jpg", "eval/dog/1.jpg")
    assert find_corpus(str(tmp_path), "auto", "all").layout == "images"
    found = find_corpus(str(tmp_path), "imagefolder", "all")
    assert [source.split for source in found.sources] == ["test", "train"]
    assert found.class_names == ("cat", "dog")


def test_the_folders_to_take_can_be_named(tmp_path):
    add(tmp_path, f"train/{CAT}/1.JPEG", "test/ILSVRC2012_test_00000001.JPEG")
    (source,) = find_corpus(str(tmp_path), "auto", "all", Parts(images=(f"{tmp_path}/train",))).sources
    assert source == Source("images", f"{tmp_path}/train", split="train")


@pytest.mark.parametrize(
    ("names", "parts", "message"),
    [
        (
            [f"train/{CAT}/1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"],
            {},
            r"the folder of a split must hold a folder a class, got none there \(.*/val\); sort its images into such "
            r"folders \(torchvision.datasets.ImageNet unpacks ILSVRC2012's validation images so\), or name the folders "
            r"to take by --images",
        ),
        (["cat/1.jpg"], {}, "imagefolder corpus must have a folder train, val, .*, and a folder a class in it"),
        (["train/cat/1.jpg"], {"images": ["cat"]}, "images must be the folder of a split, called one of .*, got .*cat"),
        (["train/cat/1.jpg"], {"images": ["val"]}, "images must be the folder of a split, called one of .*, got .*val"),
        (["train/cat/1.jpg"], {"lists": ["train"]}, "class folders must come without annotations and lists, got .*"),
    ],
)
def test_what_is_no_folder_of_class_folders_is_refused_with_a_remedy(tmp_path, names, parts, message):
    add(tmp_path, *names)
    named: dict[str, Any] = {kind: tuple(f"{tmp_path}/{name}" for name in names) for kind, names in parts.items()}
    with pytest.raises(ValueError, match=message):
        find_corpus(str(tmp_path), "imagefolder", "all", Parts(**named))


def test_a_subset_of_class_folders_is_refused(tmp_path):
    add(tmp_path, "train/cat/1.jpg")
    with pytest.raises(ValueError, match="subset must be 'all' for a corpus without lists, got '10'"):
        find_corpus(str(tmp_path), "imagefolder", "10")


def facts_of(root, classes):
    corpus = find_corpus(str(root), "imagefolder", "all")
    (source,) = corpus.sources
    return sorted(list_class_folders(source, corpus, classes, ""), key=str)


def test_an_image_has_the_one_class_of_the_first_folder_on_its_way(tmp_path):
    add(tmp_path, "train/cat/1.jpg", "train/dog/cat/1.jpg")
    size = (tmp_path / "train/cat/1.jpg").stat().st_size
    assert facts_of(tmp_path, ClassSet(("cat", "dog"))) == [
        ImageFact("train%2Fcat%2F1", f"{tmp_path}/train/cat/1.jpg", size, "train"),
        ImageFact("train%2Fdog%2Fcat%2F1", f"{tmp_path}/train/dog/cat/1.jpg", size, "train"),
        RowFact("train%2Fcat%2F1", f"{tmp_path}/train/cat", 0, "train", (1, 0), ""),
        RowFact("train%2Fdog%2Fcat%2F1", f"{tmp_path}/train/dog", 0, "train", (0, 1), ""),
    ]


def test_a_class_map_says_which_class_a_folder_is(tmp_path):
    add(tmp_path, f"train/{CAT}/1.jpg")
    _, row = facts_of(tmp_path, make_class_set(("dog", "cat"), {CAT: "cat"}))
    assert row.labels == (0, 1)


def test_an_image_in_no_class_folder_is_refused_by_name_in_its_split(tmp_path):
    add(tmp_path, "train/stray.jpg", "train/dog/1.jpg")
    assert facts_of(tmp_path, ClassSet(("cat",))) == [
        ProblemFact(
            "train%2Fdog%2F1",
            f"{tmp_path}/train/dog/1.jpg",
            "unknown_class",
            "the class folder 'dog' is none of the classes",
            "train",
        ),
        ProblemFact(
            "train%2Fstray", f"{tmp_path}/train/stray.jpg", "unknown_class", "it lies in no class folder", "train"
        ),
    ]
