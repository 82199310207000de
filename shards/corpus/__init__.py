"""Read corpora as other people keep them: layouts, lists, annotations, archives."""

__all__ = [
    "annotations",
    "boxes",
    "description",
    "facts",
    "label_lists",
    "layouts",
    "metadata",
    "policy",
    "read_annotations",
    "read_scan",
    "records",
    "streams",
    "tree",
]
