"""What a model suggests goes out beside the annotations, and chooses the scans that go out."""

import json
from dataclasses import replace

import pytest

from pipelines.annotate import export_annotations, import_annotations
from pipelines.import_predictions import ImportPredictionsConfig, import_predictions
from shards.annotation.export import ExportPlan, export_scans
from shards.annotation.uncertain import choose_uncertain
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions
from tests.shards.annotation.test_round_trips import IMPORTED, run


@pytest.fixture
def predicted(tmp_path):
    samples = [sample(f"P{n:05d}", (n % 2, 0), group=f"bag {n // 2}", size_px=(200, 100)) for n in range(8)]
    dataset = write_dataset(tmp_path / "predicted", samples)
    logits = [(0.1, 5), (-0.2, 4), (3, 0.05), (2, -0.3), (-1, 3), (1.5, 2), (-4, -4), (4, -2)]
    peaks = [(20.0, 30.0), (199.0, 1.0)]
    rows = [prediction(f"P{n:05d}", pair, peaks) for n, pair in enumerate(logits)]
    return dataset, open_predictions(write_predictions(tmp_path / "predictions", dataset, rows))


def test_peaks_are_suggested_as_boxes_within_the_scan_and_are_no_annotations(predicted, tmp_path):
    dataset, predictions = predicted
    plan = ExportPlan(
        dataset=dataset, output=str(tmp_path / "out"), format_name="coco", predictions=predictions, has_pictures=False
    )
    found = export_scans(plan)
    assert found.num_boxes == 0 and found.num_suggestions == 10
    results = json.loads((tmp_path / "out/suggestions.json").read_text())
    assert all(0.5 <= one["score"] <= 1 for one in results)
    assert {tuple(one["bbox"]) for one in results} == {(12.0, 26.0, 16.0, 8.0), (191.0, 0.0, 9.0, 5.0)}
    for name in ("label-studio", "cvat", "voc", "yolo"):
        folder = tmp_path / name
        export_scans(replace(plan, output=str(folder), format_name=name))
        config = run(dataset.url, tmp_path / "c.csv", action="import", file=str(folder / IMPORTED[name]))
        assert import_annotations(config).corrections == ()


def test_the_boxes_of_a_detector_are_suggested_within_the_scan(predicted, tmp_path):
    dataset, _ = predicted
    boxes = {0.9: [10.5, 20.25, 30.0, 40.0], 0.5: [1.0, 2.0, 3.0, 4.0], 0.49: [5.0, 5.0, 5.0, 5.0]}
    boxes |= {0.7: [190.0, 90.0, 30.0, 30.0], 0.6: [205.0, 0.0, 9.0, 9.0]}  # of a scan of 200 x 100 px
    found = [{"image_id": "P00003", "category_id": "Gun", "bbox": box, "score": s} for s, box in boxes.items()]
    (tmp_path / "found.json").write_text(json.dumps(found))
    config = ImportPredictionsConfig(
        file=str(tmp_path / "found.json"),
        data=dataset.url,
        output=str(tmp_path),
        format="coco-detections",
        model_name="detector",
    )
    imported = import_predictions(config)
    exported = export_annotations(
        run(dataset.url, tmp_path / "out", predictions=imported.predictions_url, pictures=False)
    )
    assert exported.num_suggestions == 3
    results = json.loads((tmp_path / "out/suggestions.json").read_text())
    assert [(one["score"], one["bbox"]) for one in results] == [
        (0.9, boxes[0.9]),
        (0.7, [190.0, 90.0, 10.0, 10.0]),
        (0.5, boxes[0.5]),
    ]


def test_uncertain_scans_are_taken_class_by_class_one_a_bag(predicted):
    dataset, predictions = predicted
    assert choose_uncertain(dataset, predictions, 3) == ["P00000", "P00002", "P00004"]
    assert choose_uncertain(dataset, predictions, 99) == ["P00000", "P00002", "P00004", "P00007"]
