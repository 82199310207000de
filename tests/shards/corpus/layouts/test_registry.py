"""Corpora are found in every layout, and the description says what was found."""

import json
import zipfile
from typing import Any

import pytest

from shards.corpus.description import Corpus, ListFile, Source
from shards.corpus.layouts.layout import Parts
from shards.corpus.layouts.registry import LAYOUTS, find_corpus
from tests.corpora import HEADER, CorpusWriter, make_corpus, voc_xml


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)


def files(root, *names, data=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def sources_of(root, layout="auto", **parts):
    found = find_corpus(str(root), layout, "all", Parts(**parts))
    short = [
        (source.kind, source.url.removeprefix(str(root)).strip("/"), source.form, source.split, source.presence)
        for source in found.sources
    ]
    return found.layout, short


def test_the_release_layout_is_found(tmp_path):
    corpus = make_corpus(tmp_path)
    corpus.add_row("P00000", subset="1000")
    found = find_corpus(str(tmp_path), "auto", "all")
    assert found == Corpus(
        "sixray",
        str(tmp_path),
        (Source("images", f"{tmp_path}/JPEGImage"), Source("annotations", f"{tmp_path}/Annotation")),
        tuple(
            ListFile(f"{tmp_path}/ImageSet/{subset}/{split}.csv", subset, split)
            for subset in ("10", "1000")
            for split in ("test", "train")
        ),
    )
    assert found.why == (
        "layout sixray: images in JPEGImage; annotations in Annotation; lists ImageSet/10/test.csv, "
        "ImageSet/10/train.csv, ImageSet/1000/test.csv, ImageSet/1000/train.csv"
    )


def test_folders_in_the_plural_are_found(tmp_path):
    folders(tmp_path, "JPEGImages", "Annotations")
    assert sources_of(tmp_path) == (
        "sixray",
        [("images", "JPEGImages", "folder", "", ""), ("annotations", "Annotations", "folder", "", "")],
    )


def test_numbered_folders_are_found_and_counted_in_words(tmp_path):
    folders(tmp_path, *map(str, range(21)), "Image", "Annotation")
    layout, sources = sources_of(tmp_path)
    assert layout == "sixray"
    assert {url for kind, url, *_ in sources if kind == "images"} == {*map(str, range(21)), "Image"}
    assert "images in 0 to Image (22); annotations in Annotation" in find_corpus(str(tmp_path), "auto", "all").why


def test_folders_by_presence_say_what_is_in_them(tmp_path):
    folders(tmp_path, "positive", "negative", "Annotation")
    assert sources_of(tmp_path)[1][:2] == [
        ("images", "positive", "folder", "", "positive"),
        ("images", "negative", "folder", "", "negative"),
    ]


def test_folders_by_split_say_the_split_and_eval_is_test(tmp_path):
    folders(tmp_path, "train/image", "train/annotation", "eval/image", "eval/annotation")
    assert sources_of(tmp_path) == (
        "sixray",
        [
            ("images", "eval/image", "folder", "test", ""),
            ("images", "train/image", "folder", "train", ""),
            ("annotations", "eval/annotation", "folder", "test", ""),
            ("annotations", "train/annotation", "folder", "train", ""),
        ],
    )


def test_images_at_the_root_are_found_beside_annotations(tmp_path):
    folders(tmp_path, "Annotation", "scans")
    files(tmp_path, "P00001.jpg")
    assert sources_of(tmp_path) == (
        "sixray",
        [
            ("images", "scans", "folder", "", ""),
            ("images", "", "files", "", ""),
            ("annotations", "Annotation", "folder", "", ""),
        ],
    )


def test_opixray_is_found(tmp_path):
    folders(tmp_path, "train/train_image", "train/train_annotation", "test/test_image", "test/test_annotation")
    assert sources_of(tmp_path) == (
        "opixray",
        [
            ("images", "train/train_image", "folder", "train", ""),
            ("images", "test/test_image", "folder", "test", ""),
            ("annotations", "train/train_annotation", "folder", "train", ""),
            ("annotations", "test/test_annotation", "folder", "test", ""),
        ],
    )


def test_archives_as_they_were_downloaded_are_found(tmp_path):
    files(tmp_path, *(f"JPEGImage.tar.gz{number:02d}" for number in range(3)), "README.md")
    for name in ("Annotation.zip", "positive-Annotation.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as out:
            out.writestr("Annotation/P00001.xml", "<annotation/>")
    with zipfile.ZipFile(tmp_path / "ImageSet.zip", "w") as out:
        for split in ("train", "test"):
            out.writestr(f"ImageSet/10/{split}.csv", HEADER)
    found = find_corpus(str(tmp_path), "auto", "10")
    assert found.sources == (
        Source(
            "images",
            f"{tmp_path}/JPEGImage.tar.gz00",
            "tar",
            tuple(f"{tmp_path}/JPEGImage.tar.gz{number:02d}" for number in range(3)),
        ),
        Source("annotations", f"{tmp_path}/Annotation.zip", "zip"),
        Source("annotations", f"{tmp_path}/positive-Annotation.zip", "zip"),
    )
    assert found.lists == tuple(
        ListFile(f"{tmp_path}/ImageSet.zip", "10", split, f"ImageSet/10/{split}.csv") for split in ("test", "train")
    )
    assert found.lists[0].uri == f"zip://ImageSet/10/test.csv::file://{tmp_path}/ImageSet.zip"


def test_a_part_that_is_missing_is_named(tmp_path):
    files(tmp_path, "JPEGImage.tar.gz00", "JPEGImage.tar.gz03")
    with pytest.raises(ValueError, match=r"numbered from 00 without a gap, got none numbered 01, 02 beside .*gz03"):
        find_corpus(str(tmp_path), "auto", "all")


def test_an_unpacked_folder_is_preferred_to_its_archive(tmp_path):
    folders(tmp_path, "JPEGImage", "Annotation")
    files(tmp_path, "JPEGImage.tar.gz00", "Annotation.zip")
    assert [source.form for source in find_corpus(str(tmp_path), "auto", "all").sources] == ["folder", "folder"]


def test_a_release_within_folders_of_its_own_is_found_and_the_line_says_where(tmp_path):
    make_corpus(tmp_path / "SIXray/dataset", num_train=2, num_test=1)
    files(tmp_path / "SIXray", "README.md")
    found = find_corpus(str(tmp_path), "auto", "all")
    assert (found.layout, found.url, len(found.lists)) == ("sixray", f"{tmp_path}/SIXray/dataset", 2)
    assert found.why.startswith("in SIXray/dataset: layout sixray: images in JPEGImage;")
    assert find_corpus(str(tmp_path), "sixray", "all").url == found.url
    (tmp_path / "other.jpg").write_bytes(b"x")
    assert find_corpus(str(tmp_path), "auto", "all").url == str(tmp_path)


@pytest.mark.parametrize("name", ["train.zip", "images.tar.gz", "scans.tgz"])
@pytest.mark.parametrize("beside", [[], ["annotations/instances_train.json"], ["labels/a.txt", "data.yaml"]])
def test_archives_without_an_image_beside_them_are_refused_with_what_to_do(tmp_path, name, beside):
    files(tmp_path, name, *beside)
    with pytest.raises(ValueError, match=f"corpus must hold images, got archives such as {name} .*; unpack them where"):
        find_corpus(str(tmp_path), "auto", "all")


def test_an_archive_in_place_of_a_folder_is_refused_with_what_to_do(tmp_path):
    files(tmp_path, "x.zip")
    with pytest.raises(ValueError, match=r"corpus must be a folder, got none there \(.*x.zip\); unpack the archive"):
        find_corpus(str(tmp_path / "x.zip"), "auto", "all")


@pytest.mark.parametrize("layout", ["auto", "coco"])
def test_parts_that_a_layout_cannot_take_are_refused_and_never_passed_over(tmp_path, layout):
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [],
        "categories": [{"id": 1, "name": "Gun"}],
    }
    (tmp_path / "c").mkdir()
    (tmp_path / "c/train.json").write_text(json.dumps(document))
    files(tmp_path / "i", "a.jpg")
    parts = Parts(images=(str(tmp_path / "i"),))
    with pytest.raises(ValueError, match=r"parts of a coco corpus must lie below --input, got .*/i by name"):
        find_corpus(str(tmp_path / "c"), layout, "all", parts)


def test_annotations_of_which_none_can_be_read_are_not_passed_over(tmp_path):
    files(tmp_path, "a.jpg")
    (tmp_path / "a.xml").write_bytes(voc_xml([("Gun", 1, 2, 10, 12)]).replace(b"<xmin>1", b"<xmin>1,5"))
    with pytest.raises(ValueError, match=r"annotations must be readable, got none .* bad_box: <xmin> must be a number"):
        find_corpus(str(tmp_path), "auto", "all")


@pytest.mark.parametrize("names", [[], ["pictures"], ["JPEGImage"], ["0", "1"], ["positive"]])
def test_any_other_folder_holds_plain_images(tmp_path, names):
    folders(tmp_path, *names)
    found = find_corpus(str(tmp_path), "auto", "all")
    assert found == Corpus("images", str(tmp_path), (Source("images", str(tmp_path)),), keeps_folders_in_keys=True)
    assert "neither annotations nor lists are beside them, so labels stay unknown" in found.why


def test_the_release_layout_can_be_taken_for_plain_images(tmp_path):
    make_corpus(tmp_path)
    assert sources_of(tmp_path, "images") == ("images", [("images", "", "folder", "", "")])


def test_what_the_user_names_is_not_guessed(tmp_path):
    make_corpus(tmp_path / "c")
    folders(tmp_path, "mine", "xml")
    files(tmp_path, "lists/train.csv", "more/train.txt", data=HEADER.encode())
    layout, sources = sources_of(tmp_path / "c", images=(f"{tmp_path}/mine",), annotations=(f"{tmp_path}/xml",))
    assert layout == "sixray"
    assert [source[1] for source in sources] == [f"{tmp_path}/mine".strip("/"), f"{tmp_path}/xml".strip("/")]
    found = find_corpus(
        str(tmp_path / "c"), "auto", "all", Parts(lists=(f"{tmp_path}/lists", f"{tmp_path}/more/train.txt"))
    )
    assert found.lists == (
        ListFile(f"{tmp_path}/lists/train.csv", "", "train"),
        ListFile(f"{tmp_path}/more/train.txt", "", "train", has_labels=False),
    )


def test_a_split_archive_is_named_by_any_of_its_parts(tmp_path):
    folders(tmp_path, "c")
    files(tmp_path, "scans.tar.gz00", "scans.tar.gz01", "scans.tar")
    for name in ("scans.tar.gz", "scans.tar.gz00"):
        (source,) = find_corpus(f"{tmp_path}/c", "images", "all", Parts(images=(f"{tmp_path}/{name}",))).sources
        assert (source.form, len(source.parts)) == ("tar", 2)
    (source,) = find_corpus(f"{tmp_path}/c", "images", "all", Parts(images=(f"{tmp_path}/scans.tar",))).sources
    assert source.parts == (f"{tmp_path}/scans.tar",)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": ("absent",)}, "images must be a folder, .zip, .tar or .tar.gz, got none there"),
        ({"images": ("absent.tar.gz",)}, "images must be a folder, .zip, .tar or .tar.gz, got none there"),
        ({"annotations": ("absent.zip",)}, "annotations must be a folder or .zip, got none there"),
        ({"lists": ("absent",)}, "lists must be a folder, zip or file with train.csv or test.csv, got none"),
    ],
)
def test_a_named_part_that_is_not_there_is_refused(tmp_path, parts, message):
    make_corpus(tmp_path)
    absent: dict[str, Any] = {kind: tuple(f"{tmp_path}/{name}" for name in names) for kind, names in parts.items()}
    with pytest.raises(ValueError, match=message):
        find_corpus(str(tmp_path), "auto", "all", Parts(**absent))


def test_lists_by_other_folder_names_are_read_where_the_plain_one_is_absent(tmp_path):
    folders(tmp_path, "JPEGImage")
    files(tmp_path, *(f"ImageSet/train_test_10-5/{split}.csv" for split in ("train", "test")), data=HEADER.encode())
    assert [item.subset for item in find_corpus(str(tmp_path), "auto", "10").lists] == ["10", "10"]
    files(tmp_path, *(f"ImageSet/10/{split}.csv" for split in ("train", "test")), data=HEADER.encode())
    lists = find_corpus(str(tmp_path), "auto", "all").lists
    assert [item.url for item in lists] == [f"{tmp_path}/ImageSet/10/{split}.csv" for split in ("test", "train")]


def test_lists_of_names_count_in_the_voc_layout_alone(tmp_path):
    folders(tmp_path, "JPEGImages", "Annotations")
    files(tmp_path, "ImageSets/Main/train.txt", "ImageSets/Main/val.txt", "ImageSets/Main/Gun_train.txt")
    assert find_corpus(str(tmp_path), "sixray", "all").lists == ()
    found = find_corpus(str(tmp_path), "voc", "all")
    assert [(item.split, item.has_labels) for item in found.lists] == [("train", False), ("val", False)]


@pytest.mark.parametrize(("subset", "lists"), [("positives", ("10",)), ("10", ("10",)), ("100", ("100",))])
def test_a_subset_reads_its_own_lists_alone(tmp_path, subset, lists):
    corpus = CorpusWriter(tmp_path)
    for name in ("10", "100", "1000"):
        corpus.add_row("P00001", subset=name)
    found = find_corpus(str(tmp_path), "auto", subset)
    assert [(item.subset, item.split) for item in found.lists] == [(n, s) for n in lists for s in ("test", "train")]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"^corpus must be a folder, got none there \({tmp_path}/absent\)$"):
        find_corpus(f"{tmp_path}/absent", "auto", "all")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="corpus must be a folder"):
        find_corpus(f"{tmp_path}/file", "auto", "all")
    with pytest.raises(ValueError, match=r"sixray corpus must have a folder JPEGImage or JPEGImages, .* by --images"):
        find_corpus(str(tmp_path), "sixray", "all")
    with pytest.raises(ValueError, match="opixray corpus must have folders train/train_image or test/test_image, got"):
        find_corpus(str(tmp_path), "opixray", "all")
    with pytest.raises(ValueError, match="subset must be 'all' for a corpus without lists, got '10'"):
        find_corpus(str(tmp_path), "auto", "10")


def test_a_subset_with_one_of_its_lists_is_refused(tmp_path):
    CorpusWriter(tmp_path).add_row("P00001")
    (tmp_path / "ImageSet/10/test.csv").unlink()
    with pytest.raises(ValueError, match=r"subset '10' must have lists of train and test, got .*train.csv alone \("):
        find_corpus(str(tmp_path), "auto", "10")
    assert len(find_corpus(str(tmp_path), "auto", "all").lists) == 1


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_called_by_its_name_and_says_what_an_empty_folder_lacks(tmp_path, name):
    assert LAYOUTS[name].name == name
    if name == "images":
        assert find_corpus(str(tmp_path), name, "all").layout == name
        return
    with pytest.raises(
        ValueError, match=rf"{name} corpus must have a? ?folders? .*; (name it by --im|its parts must lie below --in)"
    ):
        find_corpus(str(tmp_path), name, "all")


def test_images_that_the_user_names_are_taken_in_a_folder_of_plain_images(tmp_path):
    files(tmp_path, "scans/1.jpg", "other/2.jpg")
    assert sources_of(tmp_path, images=(f"{tmp_path}/scans",)) == ("images", [("images", "scans", "folder", "", "")])


def test_the_case_of_folders_archives_and_lists_does_not_matter(tmp_path):
    corpus = make_corpus(tmp_path)
    names = {"JPEGImage": "jpegimages", "Annotation": "ANNOTATION", "ImageSet": "imageset"}
    for name, other in names.items():
        (corpus.root / name).rename(corpus.root / other)
    for path in (corpus.root / "imageset/10").iterdir():
        path.rename(path.with_name(path.name.upper()))
    found = find_corpus(str(tmp_path), "auto", "all")
    assert [source.url.rpartition("/")[2] for source in found.sources] == ["jpegimages", "ANNOTATION"]
    assert sorted(item.split for item in found.lists) == ["test", "train"]
