"""COCO files in the forms in which people export them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as reference
from pycocotools.coco import COCO

from shards.corpus.boxes import hull_of_mask, hull_of_points
from shards.corpus.layouts.registry import find_corpus
from shards.corpus.policy import Policy
from tests.corpora import jpeg_bytes, png_bytes, reasons_of, rows_of
from tests.shards.corpus.layouts import twins
from tests.shards.corpus.layouts.twins import put
from tests.shards.plain_calls import convert_plainly

CATEGORIES = [{"id": 7, "name": "Gun"}, {"id": 3, "name": "Knife"}]


def document(images, annotations):
    images = [{"id": number, "file_name": name, "width": 40, "height": 30} for number, name in images.items()]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def box(number, image_id, category_id=7, **more):
    return {"id": number, "image_id": image_id, "category_id": category_id, **(more or {"bbox": [1, 2, 20, 10]})}


def convert(tmp_path, **options):
    manifest = convert_plainly(tmp_path / "c", tmp_path / "ds", **options)
    return manifest, {row["key"]: row for row in rows_of(tmp_path / "ds")}


@settings(max_examples=60)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_hull_of_a_mask_is_what_pycocotools_says(pixels):
    packed = reference.encode(np.asfortranarray(pixels.astype(np.uint8)))
    x, y, width, height = map(float, reference.toBbox(packed))
    expected = (x, y, x + width, y + height) if pixels.any() else (0, 0, 0, 0)
    compressed = {"size": packed["size"], "counts": packed["counts"].decode()}
    assert hull_of_mask(compressed) == expected
    flat = pixels.flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    assert hull_of_mask({"size": list(pixels.shape), "counts": runs}) == expected


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_the_hull_of_a_polygon_holds_its_mask(seed):
    rng = np.random.default_rng(seed)
    points = (rng.integers(0, 160, 8) / 4).tolist()
    xmin, ymin, xmax, ymax = hull_of_points(points)
    x, y, width, height = reference.toBbox(reference.merge(reference.frPyObjects([points], 50, 50)))
    if width and height:  # the mask is on whole pixels
        assert xmin - 1 <= x and ymin - 1 <= y and x + width <= xmax + 1 and y + height <= ymax + 1


def test_the_twin_reads_the_same_by_pycocotools(tmp_path, capsys):
    scans = twins.make_truth()
    twins.write_coco(tmp_path / "c", scans)
    convert_plainly(tmp_path / "c", tmp_path / "ds")
    found = twins.found_in(tmp_path / "ds")
    for split in twins.SPLITS:
        coco = COCO(str(tmp_path / f"c/annotations/instances_{split}.json"))
        for image in coco.loadImgs(coco.getImgIds()):
            entries = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            expected = sorted(
                (coco.cats[entry["category_id"]]["name"].replace(" ", "_"), (x, y, x + width, y + height))
                for entry in entries
                for x, y, width, height in [entry["bbox"]]
            )
            assert sorted(twins.boxes_of(found[image["file_name"].partition(".")[0]])) == expected
    capsys.readouterr()


def test_pidrays_test_sets_are_test_and_names_differ_in_the_extension(tmp_path):
    for name, folder in (("train", "train"), ("test_easy", "easy"), ("test_hard", "hard"), ("test_hidden", "hidden")):
        put(tmp_path / f"c/{folder}/xray_{name}1.png", png_bytes(1))
        put(tmp_path / f"c/annotations/xray_{name}.json", document({1: f"images/xray_{name}1.jpg"}, [box(1, 1)]))
    _, rows = convert(tmp_path)
    assert {key: (row["split"], row["labels"]) for key, row in rows.items()} == {
        f"{folder}%2Fxray_{name}1": (split, {"Knife": 0, "Gun": 1})
        for split, folder, name in (
            ("train", "train", "train"),
            ("test", "easy", "test_easy"),
            ("test", "hard", "test_hard"),
            ("test", "hidden", "test_hidden"),
        )
    }


def test_files_of_one_name_in_two_splits_are_two_scans_and_captions_are_left_out(tmp_path):
    for split, category in (("train", 3), ("val", 7)):
        put(tmp_path / f"c/{split}2017/1.jpg", jpeg_bytes(category))
        put(tmp_path / f"c/annotations/instances_{split}2017.json", document({1: "1.jpg"}, [box(1, 1, category)]))
    put(tmp_path / "c/annotations/captions_train2017.json", {"images": [], "annotations": []})
    put(
        tmp_path / "c/annotations/person_keypoints_train2017.json",
        {**document({}, []), "categories": [{"id": 1, "name": "x"}]},
    )
    manifest, rows = convert(tmp_path)
    assert manifest.classes == ("Knife", "Gun")
    assert rows["train2017%2F1"]["labels"] == {"Knife": 1, "Gun": 0}
    assert rows["val2017%2F1"]["labels"] == {"Knife": 0, "Gun": 1}


def test_boxes_come_from_masks_and_polygons_where_there_is_no_bbox(tmp_path):
    put(tmp_path / "c/1.jpg", jpeg_bytes(1))
    mask = {"size": [30, 40], "counts": [30 * 10 + 5, 20, 10, 20, 30 * 40 - 30 * 10 - 55]}
    polygons = [[1, 2, 20, 2, 20, 12.5], [3, 3, 21, 3, 4, 4]]
    entries = [box(1, 1, segmentation=mask, iscrowd=1), box(2, 1, 3, segmentation=polygons, bbox=[])]
    put(tmp_path / "c/instances.json", document({1: "1.jpg"}, entries))
    _, rows = convert(tmp_path)
    assert twins.boxes_of(rows["1"]) == [("Gun", (10, 5, 12, 25)), ("Knife", (1, 2, 21, 12.5))]


def test_images_that_no_file_names_are_unknown_and_what_cannot_be_read_is_refused_by_name(tmp_path):
    for number in range(4):
        put(tmp_path / f"c/{number}.jpg", jpeg_bytes(number))
    entries = [box(1, 0), box(2, 77), box(3, 1, 99), box(4, 2, bbox=[1, 2, 3])]
    put(tmp_path / "c/instances.json", document({0: "0.jpg", 1: "1.jpg", 2: "2.jpg", 9: "9.jpg"}, entries))
    manifest, rows = convert(tmp_path)
    assert rows["3"]["labels"] == {"Knife": None, "Gun": None}
    assert rows["1"]["labels"] == {"Knife": None, "Gun": None}  # a category that the file does not name
    assert manifest.repairs["unknown_class"]["count"] == 1
    assert reasons_of(tmp_path / "ds") == {
        "2": "unreadable_annotation",
        "9": "missing_image",
        "image_id=77": "unreadable_annotation",
    }


@pytest.mark.parametrize("is_null", [True, False])
def test_a_list_of_test_images_without_ground_truth_leaves_labels_unknown(tmp_path, is_null):
    for number in (1, 2):
        put(tmp_path / f"c/{number}.jpg", jpeg_bytes(number))
    put(tmp_path / "c/instances_train.json", document({1: "1.jpg"}, [box(1, 1)]))
    test = document({2: "2.jpg"}, [])
    test["annotations"] = None
    if not is_null:
        del test["annotations"]
    put(tmp_path / "c/instances_test.json", test)
    _, rows = convert(tmp_path)
    assert (rows["2"]["split"], rows["2"]["labels"]) == ("test", {"Knife": None, "Gun": None})


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("quarantine", None),
        ("keep-list", ({"Knife": None, "Gun": None}, 0)),
        ("keep-boxes", ({"Knife": 0, "Gun": 1}, 1)),
    ],
)
def test_an_annotation_of_an_image_of_another_size_is_a_contradiction(tmp_path, policy, expected):
    put(tmp_path / "c/1.jpg", jpeg_bytes(1, (60, 40)))
    put(tmp_path / "c/2.jpg", jpeg_bytes(2, (30, 40)))  # turned, as by EXIF
    put(tmp_path / "c/instances.json", document({1: "1.jpg", 2: "2.jpg"}, [box(1, 1), box(2, 2)]))
    manifest, rows = convert(tmp_path, policy=Policy(on_contradiction=policy))
    assert manifest.contradictions["size_mismatch"]["count"] == 2
    if expected is None:
        assert reasons_of(tmp_path / "ds") == {"1": "size_mismatch", "2": "size_mismatch"}
    else:
        assert {(json.dumps(row["labels"]), len(row["boxes"])) for row in rows.values()} == {
            (json.dumps(expected[0]), expected[1])
        }


def test_an_image_without_a_name_is_refused_alone_and_a_file_in_utf_16_is_read(tmp_path):
    found = document({1: "a.jpg"}, [box(1, 1)])
    found["images"].append({"id": 3})
    put_corpus(tmp_path, json.dumps(found).encode("utf-16"))
    _, rows = convert(tmp_path)
    assert sorted((key, len(row["boxes"])) for key, row in rows.items()) == [("train%2Fa", 1), ("train%2Fb", 0)]
    assert rows["train%2Fb"]["labels"] == {"Knife": None, "Gun": None}
    assert reasons_of(tmp_path / "ds") == {"bad%20image%200": "unreadable_annotation"}


def test_roboflows_group_of_categories_is_no_class(tmp_path):
    put(tmp_path / "c/train/1.jpg", jpeg_bytes(1))
    found = document({1: "1.jpg"}, [box(1, 1, 1)])
    group = {"id": 0, "name": "items", "supercategory": "none"}
    found["categories"] = [group, {"id": 1, "name": "Cell phone", "supercategory": "items"}]
    put(tmp_path / "c/train/_annotations.coco.json", found)
    manifest, rows = convert(tmp_path)
    assert manifest.classes == ("Cell_phone",)
    assert rows["train%2F1"]["labels"] == {"Cell_phone": 1}


def test_categories_that_cannot_be_read_stop_the_conversion(tmp_path):
    put(tmp_path / "1.jpg", jpeg_bytes(1))
    put(tmp_path / "instances.json", '{"images": [], "annotations": [], "categories": [{"name": "Gun"}]}')
    with pytest.raises(ValueError, match=r"categories must be a list of id and name, got KeyError\('id'\) .*export it"):
        find_corpus(str(tmp_path), "auto", "all")


def put_corpus(tmp_path, text, names=("a.jpg", "b.jpg")):
    put(tmp_path / "c/train.json", text)
    for at, name in enumerate(names):
        put(tmp_path / "c/train" / name, jpeg_bytes(at))


def test_images_that_share_an_id_are_refused_and_their_annotations_prove_nothing(tmp_path):
    found = document({1: "a.jpg"}, [box(1, 1)])
    found["images"].append(found["images"][0] | {"file_name": "b.jpg"})
    put_corpus(tmp_path, json.dumps(found))
    _, rows = convert(tmp_path)
    assert rows == {}
    assert reasons_of(tmp_path / "ds") == dict.fromkeys(["train%2Fa", "train%2Fb"], "unreadable_annotation")


def test_names_of_categories_are_in_the_encoding_of_the_whole_file(tmp_path):
    found = document({1: "包.jpg", 2: "b.jpg"}, [box(1, 1)])
    found["categories"] = [{"id": 7, "name": "枪"}]  # its bytes in GBK are a letter in UTF-8
    put_corpus(tmp_path, json.dumps(found, ensure_ascii=False).encode("gbk"), ("包.jpg", "b.jpg"))
    manifest, rows = convert(tmp_path)
    assert manifest.classes == ("枪",)
    assert sorted(row["labels"]["枪"] for row in rows.values()) == [0, 1]


def test_a_file_that_is_cut_before_its_categories_stops_the_conversion(tmp_path):
    put_corpus(tmp_path, json.dumps(document({1: "a.jpg"}, [box(1, 1)]))[:-40].replace("categories", "x"))
    with pytest.raises(ValueError, match=r"COCO file must have .* got no categories .*train.json\); is it cut"):
        find_corpus(str(tmp_path / "c"), "auto", "all")
