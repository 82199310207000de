"""Writes the fixtures of format 1 anew: `python -m tests.golden.regenerate_format1`.

To be run by hand, and only where a change of the formats is meant: `test_format1.py` holds that code reads and
continues what an earlier state of the code wrote, which fixtures of today's code cannot show. Models get other ids with
other versions of PyTorch and timm; the test names them.
"""

import io
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from tests.corpora import SCORED, CorpusWriter
from tests.golden import steps

_COLOURS = ((230, 30, 30), (30, 200, 30), (30, 30, 230), (220, 210, 20), (20, 200, 210), (120, 60, 20))
_CLASSES = (*SCORED, "Hammer")


def main() -> None:
    """Replace the folder of fixtures."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # with one core all work is done in this process
    torch.set_num_threads(1)
    socket.gethostname = lambda: "golden"  # TensorBoard's log files have the machine's name in theirs
    shutil.rmtree(steps.ROOT, ignore_errors=True)
    write_corpus(CorpusWriter(steps.CORPUS))
    expect_ok(steps.convert(steps.DATASET))
    expected: dict[str, Any] = {
        "parquet_written_by": steps.written_by(next(steps.DATASET.glob("samples/*")).read_bytes())
    }
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: Path(scratch) / name for name in steps.RESHARDS}
        expected["reshards"] = {name: describe_dataset(steps.reshard(name, made[name]), made[name]) for name in made}
        built = Path(scratch) / "built"
        expected["positives"] = describe_dataset(steps.convert_positives(built), built)
        expected["run"] = write_run(Path(scratch) / "whole")
        expected["model_ids"] = model_id = write_models(Path(scratch))
        expect_ok(steps.score(steps.MODEL, steps.PREDICTIONS))
        expect_ok(steps.score(Path(scratch) / "sxmnet", Path(scratch) / "scores", "--split=test"))
        rows = steps.rows_of(Path(scratch) / "scores" / model_id["model_sxmnet"])
        expected["sxmnet_scores"] = {
            row["key"]: [list(of.values()) for of in (row["logits"], *row["level_logits"])] for row in rows
        }
        predictions = steps.PREDICTIONS / model_id["model"]
        expect_ok(steps.evaluate(predictions, Path(scratch) / "report"))
        steps.REPORT.mkdir()
        shutil.copy(Path(scratch) / "report" / "metrics.json", steps.REPORT)
    expected["recipes"] = {name: steps.config_sha256(make()) for name, make in sorted(steps.RECIPES.items())}
    expect_ok(steps.list_alarms(predictions, steps.ALARMS))
    expect_ok(steps.label_levels(predictions, steps.LABELS))
    steps.EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


def expect_ok(code: int) -> None:
    """Raise where a command did not end well."""
    if code != 0:
        raise RuntimeError(f"command must exit with 0, got {code}")


def write_corpus(corpus: CorpusWriter) -> None:
    """Write some seventy scans, five of them with something wrong, in the layout of the SIXray release."""
    for number in range(70):
        split = "train" if number % 13 < 6 else "test"
        present = [number // 3 % len(SCORED)] if number % 3 == 0 else []
        if number % 12 == 0:
            present.append(5 if number % 24 == 0 else (present[0] + 2) % len(SCORED))
        add_scan(corpus, f"{'P' if present else 'N'}{number:05d}", present, split)
    sound = (corpus.images / "N00001.jpg").read_bytes()
    corpus.add_image("N90001", draw_scan(901, [])[0][:-60])
    corpus.add_row("N90001")
    image, boxes = draw_scan(902, [1])
    corpus.add_image("P90002", image)
    corpus.add_row("P90002", ["Gun"])
    corpus.add_annotation("P90002", boxes)
    corpus.add_image("N90003", draw_scan(903, [])[0])
    corpus.add_image("N90004", sound)
    corpus.add_row("N90004", split="test")
    corpus.add_row("N90005", split="test")


def add_scan(corpus: CorpusWriter, stem: str, present: list[int], split: str) -> None:
    """Add a sound scan of classes by their number."""
    image, boxes = draw_scan(int(stem[1:]), present)
    corpus.add_image(stem, image)
    corpus.add_row(stem, [_CLASSES[of] for of in present if of < len(SCORED)], split=split)
    if present:
        corpus.add_annotation(stem, boxes)


def draw_scan(seed: int, present: list[int]) -> tuple[bytes, list[tuple[str, float, float, float, float]]]:
    """Return a JPEG of noise with a block for every class that is present, and the blocks' boxes."""
    rng = np.random.default_rng(seed)
    width, height = (80, 56) if seed % 7 == 0 else (64, 48)
    coarse = rng.integers(130, 256, (height // 8, width // 8, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()
    boxes = []
    for number in present:
        x, y = int(rng.integers(0, width - 24)), int(rng.integers(0, height - 20))
        block = np.array(_COLOURS[number]) + rng.integers(-20, 21, (20, 24, 3))
        pixels[y : y + 20, x : x + 24] = block.clip(0, 255).astype(np.uint8)
        boxes.append((_CLASSES[number], x + 0.5, float(y), x + 24.0, y + 19.75))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=60)
    return out.getvalue(), boxes


def describe_dataset(code: int, folder: Path) -> dict[str, Any]:
    """Return the manifest of a dataset that a command made, and the checksums of its other files."""
    expect_ok(code)
    files = steps.files_of(folder)
    manifest = steps.manifest_document(files.pop("dataset.json"), with_table_checksums=True)
    return {"manifest": manifest, "files": {file: steps.checksum(file, data) for file, data in files.items()}}


def write_run(scratch: Path) -> dict[str, Any]:
    """Train once without a stop, for the model and the last weights, and once with a stop; say how each ended."""
    shutil.copytree(steps.train_run(scratch), steps.MODEL)
    try:
        steps.train_run(steps.RUN, [steps.StopBefore(steps.STOPPED_BEFORE_STEP)], checkpoint_seconds=0.0)
    except steps.StoppedError:
        pass
    else:
        raise RuntimeError(f"run must have more than {steps.STOPPED_BEFORE_STEP} steps, got fewer")
    last = steps.read_checkpoint(str(scratch / "checkpoints/last.ckpt"))
    weights = {name: value.numpy() for name, value in last["state_dict"].items()}
    np.savez_compressed(steps.FINAL_WEIGHTS, **weights)
    return {"num_steps": last["global_step"], "feed": last["feed"], "keeper": last["callbacks"]["CheckpointKeeper"]}


def write_models(scratch: Path) -> dict[str, str]:
    """Write the pyramid network, compressed here and as it is to a scratch folder; return the ids of both models."""
    network, config = steps.make_sxmnet()
    model_id = steps.save_model(str(scratch / "sxmnet"), network, config, {"recipe": "golden"})
    steps.SXMNET.mkdir()
    shutil.copy(scratch / "sxmnet/config.json", steps.SXMNET)
    weights = (scratch / "sxmnet/model.safetensors").read_bytes()
    steps.SXMNET_WEIGHTS.write_bytes(pa.Codec("zstd", compression_level=19).compress(weights, asbytes=True))
    return {"model": steps.load_model(str(steps.MODEL)).model_id, "model_sxmnet": model_id}


if __name__ == "__main__":
    main()
