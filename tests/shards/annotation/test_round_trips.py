"""What goes out to an annotation tool comes back unchanged, and what a person changed arrives, in every format."""

import hashlib
import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

from pipelines import annotate
from pipelines.annotate import AnnotateConfig, export_annotations, import_annotations
from shards.annotation.export import ExportPlan, export_scans
from shards.annotation.formats import WRITERS
from shards.curation.corrections import read_corrections
from shards.format.dataset import open_dataset
from tests.corpora import CorpusWriter, jpeg_bytes, rows_of
from tests.model.written import ALL_CLASSES, sample, write_dataset
from tests.shards.plain_calls import convert_plainly

IMPORTED = {
    "coco": "annotations/instances_default.json",
    "cvat": "annotations.xml",
    "label-studio": "tasks.json",
    "voc": "Annotations",
    "yolo": "",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Scans with boxes of odd places, without boxes, without known labels, and with Chinese names."""
    corpus = CorpusWriter(tmp_path_factory.mktemp("corpus"))
    corpus.add_scan("P00001", ("Gun", "Knife"))
    corpus.add_scan("P00002", ("Gun",), split="test")
    corpus.add_scan("行李 7", ("Wrench",))
    corpus.add_scan("N0000001", ())
    corpus.add_image("N0000002", jpeg_bytes(3))
    output = tmp_path_factory.mktemp("dataset") / "ds"
    convert_plainly(corpus.root, output)
    rows = rows_of(output)
    assert any(None in row["labels"].values() for row in rows) and sum(bool(row["boxes"]) for row in rows) >= 3
    return output


def run(dataset, output, **changes):
    fields = {"action": "export", "data": str(dataset), "output": str(output)} | changes
    return AnnotateConfig(**fields)


@pytest.fixture(scope="module", params=WRITERS)
def exported(request, dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("export") / request.param
    found = export_annotations(run(dataset, output, format=request.param))
    assert found.num_scans == len(rows_of(dataset)) and not found.unreadable
    return request.param, output


def come_back(dataset, exported, output):
    format_name, folder = exported
    config = run(dataset, output, action="import", file=str(folder / IMPORTED[format_name]), author="Ada")
    return import_annotations(config)


def told(rows, format_name):
    """The scans of which a format can say what is in them: all, unless it has boxes alone."""
    if format_name not in ("voc", "yolo"):
        return list(rows)
    return [row for row in rows if row["boxes"] or {0} <= set(row["labels"].values()) - {None} <= {0}]


@pytest.mark.parametrize(("format_name", "folder"), [("voc", "Annotations"), ("yolo", "labels")])
def test_a_format_of_boxes_alone_says_nothing_of_a_scan_that_may_have_an_item(dataset, tmp_path, format_name, folder):
    rows = rows_of(dataset)
    export_annotations(run(dataset, tmp_path / "out", format=format_name))
    found = {path.stem for path in (tmp_path / "out" / folder).iterdir()}
    assert found == {row["key"] for row in told(rows, format_name)} and len(found) < len(rows)
    assert len(list((tmp_path / "out" / "images").iterdir())) == len(rows)


def test_nothing_changes_on_the_way_out_and_back(dataset, exported, tmp_path):
    found = come_back(dataset, exported, tmp_path / "none.csv")
    assert (found.num_scans, found.corrections) == (len(told(rows_of(dataset), exported[0])), ())
    assert read_corrections(str(tmp_path / "none.csv")) == []


def test_the_pictures_are_the_bytes_of_the_dataset(dataset, exported):
    found = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in (exported[1] / "images").iterdir()}
    assert found == {row["key"]: row["sha256"] for row in rows_of(dataset)}


def edit(exported, key, change):
    """Move the left edge of the first box of a scan by 3 px to the right, or remove all its boxes."""
    format_name, folder = exported
    if format_name == "coco":
        path = folder / "annotations/instances_default.json"
        document = json.loads(path.read_text())
        (number,) = (image["id"] for image in document["images"] if Path(image["file_name"]).stem == key)
        mine = [item for item in document["annotations"] if item["image_id"] == number]
        if change == "move":
            mine[0]["bbox"][0] += 3
            mine[0]["bbox"][2] -= 3
        else:
            document["annotations"] = [item for item in document["annotations"] if item["image_id"] != number]
        path.write_text(json.dumps(document))
    elif format_name == "label-studio":
        path = folder / "tasks.json"
        tasks = json.loads(path.read_text())
        (task,) = (task for task in tasks if Path(task["data"]["image"]).stem == key)
        result = task["annotations"][0]["result"]
        if change == "move":
            share = 100 * 3 / result[0]["original_width"]
            result[0]["value"]["x"] += share
            result[0]["value"]["width"] -= share
        else:
            result.clear()
        path.write_text(json.dumps(tasks))
    elif format_name == "yolo":
        path = folder / "labels" / f"{key}.txt"
        width = next(row["width_px"] for row in rows_of(folder.parent / "ds") if row["key"] == key)
        lines = path.read_text().splitlines()
        if change == "move":
            number, x, y, w, h = lines[0].split()
            lines[0] = f"{number} {float(x) + 1.5 / width:.10f} {y} {float(w) - 3 / width:.10f} {h}"
        path.write_text("".join(f"{line}\n" for line in lines) if change == "move" else "")
    else:
        path = folder / ("annotations.xml" if format_name == "cvat" else f"Annotations/{key}.xml")
        text = path.read_text()
        start = text.index(f'name="{key}.') if format_name == "cvat" else 0
        end = text.index("</image>" if format_name == "cvat" else "</annotation>", start)
        part, tag = text[start:end], "box" if format_name == "cvat" else "object"
        if change == "move":
            pattern = r'(xtl=")([^"]+)(")' if format_name == "cvat" else r"(<xmin>)([^<]+)(<)"
            part = re.sub(pattern, lambda found: f"{found[1]}{float(found[2]) + 3}{found[3]}", part, count=1)
        else:
            first = part.index(f"<{tag}")
            part = part[:first] + ("" if format_name == "voc" else "\n")
        path.write_text(text[:start] + part + text[end:])


@pytest.mark.parametrize("change", ["move", "remove"])
@pytest.mark.parametrize("format_name", WRITERS)
def test_what_a_person_changed_is_corrected_and_nothing_else(dataset, tmp_path, format_name, change):
    rows = {row["key"]: row for row in rows_of(dataset)}
    (key,) = (key for key, row in rows.items() if row["labels"]["Wrench"] == 1)  # the scan with a Chinese name
    folder = tmp_path / format_name
    export_annotations(run(dataset, folder, format=format_name))
    if format_name == "yolo":
        (tmp_path / "ds").symlink_to(dataset)
    edit((format_name, folder), key, change)
    found = come_back(dataset, (format_name, folder), tmp_path / "c.csv")
    (correction,) = read_corrections(str(tmp_path / "c.csv"))
    assert (correction.key, correction.sha256, correction.author) == (key, rows[key]["sha256"], "Ada")
    before = rows[key]["boxes"]
    assert correction.boxes is not None
    if change == "remove":
        assert (correction.boxes, dict(correction.labels)) == ((), {before[0]["class"]: 0})
    else:
        assert len(correction.boxes) == len(before) and not correction.labels
        moved = correction.boxes[0].xmin_px - before[0]["xmin_px"]
        assert moved == pytest.approx(3, abs=0.01) and correction.boxes[0].ymax_px == pytest.approx(
            before[0]["ymax_px"]
        )
    assert found.num_scans == len(told(rows.values(), format_name))


def test_coco_is_what_pycocotools_reads(dataset, tmp_path, capsys):
    export_annotations(run(dataset, tmp_path / "coco"))
    coco = COCO(str(tmp_path / "coco/annotations/instances_default.json"))
    rows = {row["key"]: row for row in rows_of(dataset)}
    assert len(coco.imgs) == len(rows)
    for image in coco.imgs.values():
        row = rows[Path(image["file_name"]).stem]
        found = [
            (coco.cats[item["category_id"]]["name"], *item["bbox"])
            for item in coco.loadAnns(coco.getAnnIds(image["id"]))
        ]
        expected = [
            (b["class"], b["xmin_px"], b["ymin_px"], b["xmax_px"] - b["xmin_px"], b["ymax_px"] - b["ymin_px"])
            for b in row["boxes"]
        ]
        assert [one[0] for one in found] == [one[0] for one in expected]
        np.testing.assert_allclose([one[1:] for one in found], [one[1:] for one in expected], atol=0.01)


def test_yolo_names_its_classes_by_number(dataset, tmp_path):
    export_annotations(run(dataset, tmp_path / "yolo", format="yolo"))
    document = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert list(document["names"].values()) == list(open_dataset(str(dataset)).manifest.classes)


def test_a_condition_selects_scans_and_references_replace_pictures(dataset, tmp_path):
    found = export_annotations(run(dataset, tmp_path / "one", select="labels.Gun = 1", pictures=False))
    expected = [row for row in rows_of(dataset) if row["labels"]["Gun"] == 1]
    assert found.num_scans == len(expected) > 0
    document = json.loads((tmp_path / "one/annotations/instances_default.json").read_text())
    assert {image["file_name"] for image in document["images"]} == {row["source_uri"] for row in expected}
    assert not (tmp_path / "one/images").exists()


@pytest.mark.parametrize(
    ("edit_document", "words"),
    [
        (lambda d: d["images"][0].update(sha256="0" * 64), "its image was replaced since the export"),
        (lambda d: d["images"][0].update(file_name="other.jpg"), "scans must be of the dataset, got 'other'"),
        (lambda d: d["annotations"][0].update(category_id=99), "annotation must have a known category_id"),
        (
            lambda d: d["annotations"][0].update(image_id=99),
            "annotations must be of images of the file, got image_id 99",
        ),
        (lambda d: d["annotations"][0].update(bbox=[0, 0, 9999, 5]), "a box must lie within"),
        (lambda d: d["categories"][0].update(name="Bomb"), "classes must be of ["),
        (lambda d: d.pop("images"), "file must be COCO"),
    ],
)
def test_what_does_not_fit_is_refused_by_file_and_place(dataset, tmp_path, capsys, edit_document, words):
    export_annotations(run(dataset, tmp_path / "coco", pictures=False))
    path = tmp_path / "coco/annotations/instances_default.json"
    document = json.loads(path.read_text())
    edit_document(document)
    path.write_text(json.dumps(document))
    words_of = ["import", str(path), "--data", str(dataset), "--output", str(tmp_path / "c.csv")]
    assert annotate.main(words_of) == 2
    printed = capsys.readouterr().err
    assert words in printed and str(path) in printed
    assert not (tmp_path / "c.csv").exists()


def test_a_format_without_checksums_needs_the_list_of_the_export(dataset, tmp_path, capsys):
    export_annotations(run(dataset, tmp_path / "voc", format="voc", pictures=False))
    (tmp_path / "voc/scans.csv").unlink()
    words = ["import", str(tmp_path / "voc/Annotations"), "--data", str(dataset), "--output", str(tmp_path / "c.csv")]
    assert annotate.main(words) == 2
    assert "put scans.csv of the export into the folder of the file" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused_and_an_unfinished_export_begun_anew(dataset, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    words = ["export", "--data", str(dataset), "--output", str(tmp_path / "mine")]
    assert annotate.main(words) == 2
    assert "output must be a new folder, or one with an unfinished export" in capsys.readouterr().err
    (tmp_path / "mine/unfinished.txt").write_text("")
    assert annotate.main(words) == 0
    assert not (tmp_path / "mine/unfinished.txt").exists()
    assert annotate.main(words) == 2


def test_an_export_needs_no_more_memory_for_more_scans(tmp_path):
    peaks = []
    for num in (6_000, 24_000):  # both tables are longer than what is copied at once
        samples = [sample(f"N{n:07d}", (0, 0)) for n in range(num)]
        dataset = write_dataset(tmp_path / str(num), samples, num_shards=num // 250)
        tracemalloc.start()
        export_scans(
            ExportPlan(dataset=dataset, output=str(tmp_path / f"out{num}"), format_name="coco", has_pictures=False)
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert len(ALL_CLASSES) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action": "import"}, "a file must be given to import and for nothing else, got none"),
        ({"file": "x.json"}, "a file must be given to import and for nothing else, got 'x.json'"),
        ({"uncertain": 3}, "uncertain must go with the predictions"),
        ({"uncertain": 0, "predictions": "p"}, "uncertain must be >= 1, got 0"),
        ({"uncertain": 3, "predictions": "p", "review": "r"}, "must come from --review or from --uncertain, got both"),
    ],
)
def test_wrong_usage_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        run("d", "o", **changes)
