"""Read and write predictions: parts, run.json, and which parts are still to be made."""

__all__ = [
    "attested",
    "coco_detections",
    "detections",
    "import_scores",
    "parts",
    "plan",
    "run",
    "score_table",
    "trained_on",
]
