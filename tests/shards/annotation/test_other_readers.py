"""Read exports with the readers of Datumaro, which is CVAT's own, and of Label Studio.

Both ask for older packages than the environment's; `tests/README.md` says how they are put beside it.
"""

import json
import warnings
from pathlib import Path

import pytest

from pipelines.annotate import AnnotateConfig, export_annotations
from tests.corpora import CorpusWriter, jpeg_bytes, rows_of
from tests.shards.plain_calls import convert_plainly


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Scans with two boxes, one and none, and with a Chinese name."""
    corpus = CorpusWriter(tmp_path_factory.mktemp("corpus"))
    corpus.add_scan("P00001", ("Gun", "Knife"))
    corpus.add_scan("行李 7", ("Wrench",))
    corpus.add_scan("N0000001", ())
    corpus.add_image("N0000002", jpeg_bytes(3))
    output = tmp_path_factory.mktemp("dataset") / "ds"
    convert_plainly(corpus.root, output)
    return output


def export(dataset: Path, folder: Path, format_name: str) -> None:
    config = AnnotateConfig(action="export", data=str(dataset), output=str(folder), format=format_name)  # type: ignore[arg-type]
    export_annotations(config)


def boxes_of(row):
    return sorted(
        (box["class"], *(box[f"{edge}_px"] for edge in ("xmin", "ymin", "xmax", "ymax"))) for box in row["boxes"]
    )


@pytest.mark.parametrize(
    ("format_name", "reader"),
    [("coco", "coco_instances"), ("cvat", "cvat"), ("voc", "voc_detection"), ("yolo", "yolo")],
)
def test_datumaro_reads_the_same_boxes(dataset, tmp_path, format_name, reader):
    datumaro = pytest.importorskip("datumaro", reason="Datumaro is not installed: see tests/README.md")
    export(dataset, tmp_path / "out", format_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = datumaro.Dataset.import_from(str(tmp_path / "out"), reader)
        names = read.categories()[datumaro.AnnotationType.label]
        found = {
            item.id.rpartition("/")[2]: sorted(
                (names[shape.label].name, *shape.points)
                for shape in item.annotations
                if shape.type == datumaro.AnnotationType.bbox
            )
            for item in read
        }
    rows = {row["key"]: row for row in rows_of(dataset)}
    if format_name == "yolo":  # a scan of unknown labels has no file of boxes, and Datumaro takes no image without one
        rows = {key: row for key, row in rows.items() if row["labels"]["Gun"] is not None}
    assert found.keys() == rows.keys()
    for key, boxes in found.items():
        expected = boxes_of(rows[key])
        assert [box[0] for box in boxes] == [box[0] for box in expected]
        assert [edge for box in boxes for edge in box[1:]] == pytest.approx(
            [e for box in expected for e in box[1:]], abs=0.01
        )


def test_label_studio_converts_the_same_boxes(dataset, tmp_path):
    converter = pytest.importorskip(
        "label_studio_sdk.converter", reason="Label Studio's SDK is not installed: see tests/README.md"
    )
    export(dataset, tmp_path / "out", "label-studio")
    config = (tmp_path / "out/labels.xml").read_text()
    tasks = json.loads((tmp_path / "out/tasks.json").read_text())
    numbered = [task | {"id": number} for number, task in enumerate(tasks)]  # as the server does when it takes them
    (tmp_path / "tasks.json").write_text(json.dumps(numbered))
    reader = converter.Converter(config, str(tmp_path), download_resources=False)
    reader.convert_to_coco(str(tmp_path / "tasks.json"), str(tmp_path / "coco"), is_dir=False)
    document = json.loads((tmp_path / "coco/result.json").read_text())
    names = {item["id"]: item["name"] for item in document["categories"]}
    keys = {image["id"]: Path(image["file_name"]).stem.rpartition("__")[2] for image in document["images"]}
    rows = {row["key"]: row for row in rows_of(dataset)}
    assert set(keys.values()) == rows.keys()
    for number, key in keys.items():
        found = sorted(
            (names[of["category_id"]], x, y, x + width, y + height)
            for of in document["annotations"]
            if of["image_id"] == number
            for x, y, width, height in [of["bbox"]]
        )
        expected = boxes_of(rows[key])
        assert [box[0] for box in found] == [box[0] for box in expected]
        assert [edge for box in found for edge in box[1:]] == pytest.approx(
            [e for box in expected for e in box[1:]], abs=0.01
        )
