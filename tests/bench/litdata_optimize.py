"""What LitData's documentation shows for packing a folder of images: `python litdata_optimize.py FOLDER OUTPUT`."""

import os
import sys
from pathlib import Path
from typing import Any

import litdata


def read_scan(path: str) -> dict[str, Any]:
    """Return one sample: the image as it is, and what a converted dataset holds beside it."""
    return {"key": Path(path).stem, "image": Path(path).read_bytes(), "json": b"{}"}


if __name__ == "__main__":
    folder, output = sys.argv[1:]
    litdata.optimize(
        fn=read_scan,
        inputs=sorted(str(path) for path in Path(folder, "JPEGImage").iterdir()),
        output_dir=output,
        chunk_bytes="256MB",
        num_workers=os.cpu_count(),
    )
