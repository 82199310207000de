"""The average precision of detections by pycocotools, the reference."""

import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CROWD = [0.0, 0.0, 1024.0, 1024.0]


def rate_by_coco(num_scans, found, true, crowds=()):
    """(T,) of detections (scan, score, edges) and boxes (scan, edges) of a class, at each overlap.

    Equal scores rank by scan. Scans in `crowds` are one crowd, in which no detection is wrong.
    """
    boxes = [(scan, [x, y, right - x, bottom - y], 0) for scan, x, y, right, bottom in true]
    boxes += [(scan, CROWD, 1) for scan in crowds]
    annotations = [
        {"id": n, "image_id": scan, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for n, (scan, box, crowd) in enumerate(boxes, start=1)
    ]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": n} for n in range(num_scans)],
        "annotations": annotations,
        "categories": [{"id": 1}],
    }
    results = [
        {"image_id": scan, "category_id": 1, "bbox": [x, y, right - x, bottom - y], "score": score}
        for scan, score, x, y, right, bottom in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, -1].mean(axis=1)
