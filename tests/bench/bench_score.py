"""Measure scoring of an archive beside a plain DataLoader loop, its memory, and the cost of faults.

CHR on ResNet-34 at 224 px with random weights, scans of the release's sizes from memory that the page cache holds.
The baseline is PyTorch's DataLoader with a worker per core, Pillow and eager float32; it neither checks nor stores.
Single stages run alone on all cores. The engine is the one that `sixray score` selects here.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from sklearn.metrics import average_precision_score

from model.artifacts.saved_model import LoadedModel, load_model
from model.hardware import Hardware, detect_hardware
from model.inputs.decoder import BatchDecoder
from model.scoring.engine_selection import EXPORTED_FROM_SCANS, EngineRequest, EngineSpec, list_engine_specs
from model.scoring.engines import build_engine, choose_engine, measure_engines
from model.scoring.scorer import Scorer, ShardFiles
from model.scoring.scoring_network import ScoringNetwork
from pipelines import cli
from shards.format.dataset import Dataset, open_dataset
from shards.format.parquet import QUARANTINE_SCHEMA, predictions_schema
from shards.predictions.parts import Engine, PartInfo, write_part
from tests.bench.measure import Measurement, time_in_turn
from tests.bench.scoring import (
    CLASSES,
    decode_all,
    forward_seconds,
    hours,
    make_model,
    make_scans,
    make_shards,
    rival,
    rss_mb,
    score_all,
)

BACKBONE = "resnet34"
NUM_SCANS = 384
BATCH_SIZE = 64
NUM_FLAT_SCANS = 100_000
NUM_ROWS = 1_000_000
NUM_LABELLED = 400
NUM_EPOCHS = 2
_ARCHIVE = EngineRequest(num_scans=EXPORTED_FROM_SCANS)


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure all of it."""
    hardware = replace(detect_hardware(), device="cpu", decode_device="cpu")
    model = make_model(scratch / "model", BACKBONE)
    spec, trial = _try_engines(model, hardware)
    yield from trial
    yield from measure_speed(scratch, model, hardware, spec)
    yield from measure_memory(scratch, hardware)
    yield from measure_agreement(scratch, hardware)
    yield from measure_rows(scratch)


def _try_engines(model: LoadedModel, hardware: Hardware) -> tuple[EngineSpec, list[Measurement]]:
    specs = list_engine_specs(_ARCHIVE, hardware)
    engines = {spec: build_engine(spec, model.network, model.config, hardware) for spec in specs}
    rates = measure_engines(engines, model.config.input.size_px)
    found = [Measurement(f"trial: {spec}", rate, "scans/s") for spec, rate in rates.items()]
    return choose_engine(model.network, model.config, hardware, _ARCHIVE).spec, found


def measure_speed(scratch: Path, model: LoadedModel, hardware: Hardware, spec: EngineSpec) -> Iterator[Measurement]:
    """Measure decode, forward and end to end, the rival, and what one bad scan in a hundred costs."""
    images = make_scans(128)
    sound = make_shards(scratch / "sound", images, NUM_SCANS, 3)
    damaged = make_shards(scratch / "damaged", images, NUM_SCANS, 3, one_bad_in=100)
    network = ScoringNetwork(model, hardware, EngineRequest(engine=spec.engine, dtype=spec.dtype))
    scorer = Scorer(network, BATCH_SIZE)
    decoder = BatchDecoder(model.config.input, hardware, BATCH_SIZE, channels_last=spec.engine != "onnxruntime")
    forward: list[float] = []
    num_batches = max(1, NUM_SCANS // BATCH_SIZE // 2)
    seconds = time_in_turn(
        {
            "rival": lambda: rival(images, NUM_SCANS, model, hardware, BATCH_SIZE),
            "score": lambda: score_all(scorer, sound),
            "damaged": lambda: score_all(scorer, damaged),
            "decode": lambda: decode_all(decoder, sound, BATCH_SIZE),
            "forward": lambda: forward.append(forward_seconds(network, BATCH_SIZE, num_batches)),
        }
    )
    rate = {name: NUM_SCANS / seconds[name] for name in ("rival", "score", "damaged", "decode")}
    rate["forward"] = 1 / float(np.median(forward))
    possible = 1 / (1 / rate["decode"] + 1 / rate["forward"])
    yield Measurement("DataLoader + Pillow + eager float32", rate["rival"], "scans/s")
    yield Measurement(f"end to end, {spec}", rate["score"], "scans/s")
    aim = "aim: at least 2.2" if hardware.dtype == "bfloat16" else "aim: at least 1.5"
    yield Measurement("end to end / DataLoader", rate["score"] / rate["rival"], "ratio", aim)
    yield Measurement("read, check and decode alone", rate["decode"], "scans/s")
    yield Measurement(f"forward alone, {spec}", rate["forward"], "scans/s")
    ratio = rate["score"] / possible
    yield Measurement("end to end / 1 / (1/decode + 1/forward)", ratio, "ratio", "aim: at least 0.95")
    slower = seconds["damaged"] / seconds["score"]
    yield Measurement("time with 1 % undecodable / time with none", slower, "ratio", "aim: below 2")
    yield Measurement("1,059,231 scans", hours(rate["score"]), "hours")


def measure_memory(scratch: Path, hardware: Hardware) -> Iterator[Measurement]:
    """Measure resident memory after a tenth and after all of many scans of 96 pixels, in shards of 1,000."""
    images = [image[:] for image in _small_images()]
    shards = make_shards(scratch / "flat", images, 1000, 1)
    model = make_model(scratch / "flat-model", "resnet10t", 32)
    scorer = Scorer(ScoringNetwork(model, hardware, EngineRequest(engine="eager", dtype="float32")), BATCH_SIZE)
    after = []
    for number in range(NUM_FLAT_SCANS // 1000):
        score_all(scorer, shards)
        if number + 1 in (NUM_FLAT_SCANS // 10_000, NUM_FLAT_SCANS // 1000):
            after.append(rss_mb())
    yield Measurement(f"resident after {NUM_FLAT_SCANS // 10:,} scans", after[0], "MB")
    yield Measurement(f"resident after {NUM_FLAT_SCANS:,} scans", after[-1], "MB", "aim: the same")


def _small_images() -> list[bytes]:
    from tests.shards.by_hand import make_jpeg

    return [make_jpeg(seed, 96, 96) for seed in range(16)]


def measure_agreement(scratch: Path, hardware: Hardware) -> Iterator[Measurement]:
    """Measure how far engines are from eager float32 in logits and AP, on held-out generated scans, trained briefly."""
    dataset, model = _train(scratch)
    truth_NK = _labels(dataset, model.config.classes)
    reference_NK = _logits(dataset, model, hardware, EngineSpec("eager", "float32"))
    for spec in list_engine_specs(_ARCHIVE, hardware):
        logits_NK = _logits(dataset, model, hardware, spec)
        yield Measurement(
            f"largest difference of a logit, {spec}", float(abs(logits_NK - reference_NK).max()), "logits"
        )
        gaps = [
            abs(average_precision_score(truth_N, one_N) - average_precision_score(truth_N, other_N))
            for truth_N, one_N, other_N in zip(truth_NK.T, logits_NK.T, reference_NK.T, strict=True)
            if truth_N.any()
        ]
        yield Measurement(f"largest difference of an AP, {spec}", float(max(gaps)), "AP", "aim: at most 0.001")


def _train(scratch: Path) -> tuple[Dataset, LoadedModel]:
    corpus, dataset, training = (str(scratch / name) for name in ("corpus", "dataset", "training"))
    for words in (
        ["synth", "--output", corpus, "--num-scans", str(NUM_LABELLED), "--negatives-per-positive", "2"],
        ["convert", "--input", corpus, "--output", dataset],
        ["train", "--data", dataset, "--output", training, "--recipe", "demo", "--max-epochs", str(NUM_EPOCHS)],
    ):
        if (code := cli.main(words)) != 0:
            raise RuntimeError(f"sixray {words[0]} must end with 0, got {code}")
    return open_dataset(dataset), load_model(f"{training}/model")


def _labels(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    labels = dataset.read_samples(columns=["labels"])["labels"].to_pylist()
    return np.array([[row[name] == 1 for name in classes] for row in labels])


def _logits(dataset: Dataset, model: LoadedModel, hardware: Hardware, spec: EngineSpec) -> np.ndarray:
    scorer = Scorer(ScoringNetwork(model, hardware, EngineRequest(engine=spec.engine, dtype=spec.dtype)), BATCH_SIZE)
    tables = [scorer.score_shard(ShardFiles.of(dataset, shard)).predictions for shard in dataset.shards()]
    logits = pa.concat_tables(tables)["logits"].to_pylist()
    return np.array([[row[name] for name in model.config.classes] for row in logits])


def measure_rows(scratch: Path) -> Iterator[Measurement]:
    """Measure predictions of many scans at rest: bytes a row, and reading one class' logits in DuckDB."""
    folder, a_part = scratch / "rows", 8000
    for number in range(math.ceil(NUM_ROWS / a_part)):
        _write_random_part(str(folder), number, min(a_part, NUM_ROWS - number * a_part))
    size_bytes = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    yield Measurement(f"predictions of {NUM_ROWS:,} scans, 5 classes, 3 levels", size_bytes / NUM_ROWS, "bytes/row")
    with duckdb.connect() as connection:
        seconds = time_in_turn(
            {"read": lambda: connection.execute(f"select avg(logits.Gun) from '{folder}/*.parquet'").fetchone()}
        )
    yield Measurement(f"one class' logits of {NUM_ROWS:,} scans in DuckDB", seconds["read"], "s")
    shutil.rmtree(folder)


def _write_random_part(url: str, number: int, num: int) -> None:
    rng = np.random.default_rng(number)
    schema = predictions_schema(CLASSES)

    def struct(shape: tuple[int, ...], kind: pa.StructType) -> pa.StructArray:
        return pa.StructArray.from_arrays(
            [rng.normal(-3, 2, shape).astype(np.float32) for _ in kind], fields=list(kind)
        )

    logits, levels, peaks = (schema.field(name).type for name in ("logits", "level_logits", "peaks"))
    columns = {
        "key": [f"N{number * num + place:07d}" for place in range(num)],
        "split": ["test"] * num,
        "logits": struct((num,), logits),
        "level_logits": pa.ListArray.from_arrays(
            pa.array(np.arange(num + 1, dtype=np.int32) * 3), struct((num * 3,), levels.value_type), type=levels
        ),
        "peaks": pa.StructArray.from_arrays(
            [_random_peaks(rng, num, field.type) for field in peaks], fields=list(peaks)
        ),
    }
    info = PartInfo(
        model_id="chr-resnet34-0123456789ab",
        shard=f"test-{number:05d}-of-00125",
        shard_digest="0" * 64,
        split="test",
        num_scored=num,
        num_quarantined=0,
        quarantined_by_reason={},
        engine=Engine("dali-cpu", "cpu", "float32", BATCH_SIZE),
    )
    write_part(url, pa.table(columns, schema=schema), QUARANTINE_SCHEMA.empty_table(), info)


def _random_peaks(rng: np.random.Generator, num: int, kind: pa.StructType) -> pa.StructArray:
    """Return peaks as they are: at the centre of a cell of a level's map, in a scan of its own size."""
    level = rng.integers(1, 4, num)
    cells = 28 >> (level - 1)
    x_px, y_px = ((rng.integers(0, cells) + 0.5) / cells * rng.integers(400, 900, num) for _ in range(2))
    values = (x_px.astype(np.float32), y_px.astype(np.float32), level.astype(np.int8))
    return pa.StructArray.from_arrays([*values, rng.normal(0, 3, num).astype(np.float32)], fields=list(kind))
