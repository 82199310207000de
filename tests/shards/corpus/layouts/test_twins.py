"""The same generated scans, written in every layout, are found by `auto` and come in with labels and boxes exact."""

import json
from dataclasses import replace

import pytest

from shards.corpus.layouts.registry import find_corpus
from tests.corpora import CorpusWriter, reasons_of
from tests.shards.corpus.layouts import twins
from tests.shards.plain_calls import convert_plainly

CASES = {
    "coco": (twins.write_coco, "coco", "3 categories"),
    "roboflow": (twins.write_roboflow, "coco", "_annotations.coco.json"),
    "yolo": (twins.write_yolo, "yolo", "data.yaml names 3 classes"),
    "yolo polygons": (twins.write_yolo_polygons, "yolo", "data.yaml names 3 classes"),
    "darknet": (twins.write_darknet, "yolo", "obj.data names 3 classes"),
    "labelme": (twins.write_labelme, "labelme", "classes read from the annotations: Folding knife, Gun, Knife"),
    "labelimg": (twins.write_labelimg, "voc", "XML files beside images; classes read from the annotations"),
    "voc in splits": (twins.write_voc_in_splits, "voc", "XML files beside images"),
    "voc": (twins.write_voc, "voc", "lists ImageSets/Main/test.txt, ImageSets/Main/train.txt, ImageSets/Main/val.txt"),
}


def names(boxes):
    return [(label.replace(" ", "_"), corners) for label, corners in boxes]


@pytest.mark.parametrize("case", CASES)
def test_a_twin_comes_in_exactly(tmp_path, case):
    write, layout, remark = CASES[case]
    scans = twins.make_truth()
    write(tmp_path / "c", scans)
    corpus = find_corpus(str(tmp_path / "c"), "auto", "all")
    assert corpus.layout == layout
    assert remark in corpus.why
    manifest = convert_plainly(tmp_path / "c", tmp_path / "ds", seed=1)
    assert reasons_of(tmp_path / "ds") == {}
    assert sorted(manifest.classes) == ["Folding_knife", "Gun", "Knife"]
    found = twins.found_in(tmp_path / "ds")
    assert sorted(found) == [scan.name for scan in scans]
    for scan in scans:
        row = found[scan.name]
        present = {label.replace(" ", "_") for label, _ in scan.boxes}
        assert row["split"] == scan.split
        assert row["labels"] == {name: int(name in present) for name in manifest.classes}
        assert sorted(twins.boxes_of(row)) == sorted(names(scan.boxes))


def test_hixray_comes_in_with_the_classes_of_its_annotations(tmp_path):
    scans = [replace(scan, split="test" if scan.split == "val" else scan.split) for scan in twins.make_truth()]
    scans = [scan for scan in scans if scan.boxes]
    twins.write_hixray(tmp_path / "c", scans)
    manifest = convert_plainly(tmp_path / "c", tmp_path / "ds")
    assert manifest.classes == ("Folding_knife", "Gun", "Knife")
    found = twins.found_in(tmp_path / "ds")
    for scan in scans:
        assert found[scan.name]["split"] == scan.split
        assert twins.boxes_of(found[scan.name]) == names(scan.boxes)


def test_dvxrays_views_come_in_as_groups_and_an_item_unboxed_in_a_view_is_not_absent_from_it(tmp_path):
    scans = [
        replace(scan, boxes=tuple((label, box) for label, box in scan.boxes if label != "Folding knife"))
        for scan in twins.make_truth()
    ]
    twins.write_dvxray(tmp_path / "c", scans)
    manifest = convert_plainly(tmp_path / "c", tmp_path / "ds")
    assert len(manifest.classes) == 15
    found = twins.found_in(tmp_path / "ds")
    assert len(found) == len(scans)
    for at, scan in enumerate(scans):
        row, other = found[f"P{at // 2 * 2:05d}_{('OL', 'SD')[at % 2]}"], scans[at ^ 1]
        present = {label for label, _ in scan.boxes}
        rest = None if other.boxes else 0
        assert row["labels"] == {name: 1 if name in present else rest for name in manifest.classes}
        assert twins.boxes_of(row) == names(scan.boxes)
        assert row["group"] == f"DvXray%2FP{at // 2 * 2:05d}"


@pytest.mark.parametrize("name", ["Annotation.7z", "annotations.tar.gz", "Annotations.rar", "ImageSet.7z.001"])
def test_annotations_or_lists_in_an_archive_that_is_not_read_stop_the_conversion(tmp_path, name):
    twins.put(tmp_path / "JPEGImage/1.jpg", twins.make_truth()[1].image)
    twins.put(tmp_path / name, b"x")
    with pytest.raises(ValueError, match=f"annotations and lists must be in folders or zips, got .*{name}; unpack it"):
        find_corpus(str(tmp_path), "auto", "all")
    assert find_corpus(str(tmp_path), "images", "all").layout == "images"
    twins.put(tmp_path / "Annotation/1.xml", "<annotation><object/></annotation>")
    twins.put(tmp_path / "ImageSet/10/train.csv", "name,Gun,Knife,Wrench,Pliers,Scissors\n")
    assert find_corpus(str(tmp_path), "auto", "all").layout == "sixray"


@pytest.mark.parametrize(("num_others", "layout"), [(0, "sixray"), (1, "sixray"), (3, "voc")])
def test_a_release_with_more_than_a_few_objects_of_other_classes_is_voc(tmp_path, num_others, layout):
    for number in range(9):
        label = "Lighter" if number < num_others else "Gun"
        scan = twins.Truth(f"s{number}", "train", (40, 30), ((label, (1.0, 2.0, 10.0, 12.0)),))
        twins.put(tmp_path / "JPEGImages" / scan.file_name, scan.image)
        twins.put(tmp_path / f"Annotations/{scan.name}.xml", twins.voc_document(scan))
    assert find_corpus(str(tmp_path), "auto", "all").layout == layout
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    assert find_corpus(str(tmp_path), "auto", "all").layout == "voc"


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_a_release_deep_in_folders_is_found_beside_the_archive_that_it_came_in(tmp_path, depth):
    root = tmp_path.joinpath(*"abcdef"[:depth])
    CorpusWriter(root).add_scan("P1", ("Gun",))
    twins.put(tmp_path / "a.zip", b"PK")
    corpus = find_corpus(str(tmp_path), "auto", "all")
    assert (corpus.layout, corpus.url) == ("sixray", str(root))


@pytest.mark.parametrize("name", ["all.csv", "train.xlsx"])
def test_a_list_that_is_not_read_is_named_and_valid_is_val(tmp_path, name):
    CorpusWriter(tmp_path).add_scan("P1", ("Gun",))
    twins.put(tmp_path / "ImageSet/10" / name, b"x")
    twins.put(tmp_path / "ImageSet/10/valid.csv", (tmp_path / "ImageSet/10/train.csv").read_bytes())
    corpus = find_corpus(str(tmp_path), "auto", "all")
    assert [item.split for item in corpus.lists] == ["test", "train", "val"]
    assert corpus.why.endswith(f"; not read: ImageSet/10/{name}: lists are called train.csv, val.csv or test.csv")


def test_documents_beside_plain_images_that_make_no_layout_are_named(tmp_path):
    twins.put(tmp_path / "1.jpg", twins.make_truth()[1].image)
    twins.put(tmp_path / "train.json", "{'images': [], 'annotations': [], 'categories': []}")
    twins.put(tmp_path / "README.txt", "x")
    corpus = find_corpus(str(tmp_path), "auto", "all")
    assert corpus.layout == "images"
    assert corpus.why.endswith("so labels stay unknown; not understood: train.json")


@pytest.mark.parametrize("form", ["pairs", "views"])
def test_the_lists_that_dvxrays_authors_write_say_the_split(tmp_path, form):
    twins.write_dvxray(tmp_path / "c", twins.make_truth(8))
    ends = ("OL", "SD")
    lines = {at: f"P{at:05d}" for at in (0, 2, 4, 8)}
    if form == "views":
        lines = {at: f"./data/DvXray/{pair}_OL.png ./data/DvXray/{pair}_SD.png 0,1,0" for at, pair in lines.items()}
    twins.put(tmp_path / "c/split/train.txt", f"{lines[0]}\n{lines[2]}\n")
    twins.put(tmp_path / "c/DvXray_test.txt", f"{lines[4]}\n\n{lines[8]}\n")
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    found = {name: row["split"] for name, row in twins.found_in(tmp_path / "ds").items()}
    splits = {0: "train", 2: "train", 4: "test", 6: "unlisted"}
    assert found == {f"P{at:05d}_{end}": split for at, split in splits.items() for end in ends}
    missing = {key.rpartition("%2F")[2]: reason for key, reason in reasons_of(tmp_path / "ds").items()}
    assert missing == {f"P00008_{end}": "missing_image" for end in ends}


@pytest.mark.parametrize("objects", [{"0": {"label": "Gun"}}, ["Gun"], [None], 7, None])
def test_objects_of_dvxray_that_are_no_list_of_objects_refuse_both_views(tmp_path, objects):
    twins.write_dvxray(tmp_path / "c", twins.make_truth(8))
    twins.put(tmp_path / "c/DvXray/P00000.json", {"objects": objects})
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    views = [f"DvXray%2FP00000_{view}" for view in ("OL", "SD")]
    assert reasons_of(tmp_path / "ds") == dict.fromkeys(views, "unreadable_annotation")


@pytest.mark.parametrize("write", [twins.write_coco, twins.write_yolo, twins.write_labelme, twins.write_labelimg])
def test_archives_beside_an_unpacked_corpus_are_named_and_no_scans(tmp_path, write):
    write(tmp_path / "c", twins.make_truth())
    before = convert_plainly(tmp_path / "c", tmp_path / "before").ledger
    for name in ("images.zip", "labels/more.tar.lz4", "a.7z"):
        twins.put(tmp_path / "c" / name, b"PK")
    corpus = find_corpus(str(tmp_path / "c"), "auto", "all")
    assert "; not read: images.zip, a.7z: unpack what belongs to the corpus" in corpus.why
    assert convert_plainly(tmp_path / "c", tmp_path / "ds").ledger == before
    skipped = json.loads((tmp_path / "ds/dataset.json").read_text())["skipped"]
    assert skipped["archive"]["count"] == 3


@pytest.mark.parametrize("write", [twins.write_yolo, twins.write_labelme, twins.write_labelimg])
def test_where_two_readings_are_possible_the_other_is_named(tmp_path, write):
    scans = twins.make_truth()
    twins.write_coco(tmp_path, scans)
    write(tmp_path, scans)
    corpus = find_corpus(str(tmp_path), "auto", "all")
    assert corpus.layout == "coco"
    assert "; it could also be read as " in corpus.why
    other = corpus.why.rpartition("--layout ")[2]
    assert find_corpus(str(tmp_path), other, "all").layout == other


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scans.part1.rar", "got parts of RAR or 7z archives such as scans.part1.rar .*; unpack them with"),
        ("a/scans.7z.001", "got parts of RAR or 7z archives"),
        ("bags/1.dcm", "got DICOM or DICOS files such as bags/1.dcm .*; export the pixels as PNG first"),
        ("1.dcs", "got DICOM or DICOS files"),
        ("belt.mp4", "got videos such as belt.mp4 .*; take single frames as images first"),
    ],
)
def test_what_is_no_corpus_of_images_is_refused_with_what_to_do(tmp_path, name, message):
    twins.put(tmp_path / name, b"x")
    twins.put(tmp_path / "notes.md", b"x")
    with pytest.raises(ValueError, match=message):
        find_corpus(str(tmp_path), "auto", "all")
