"""Read a converted dataset with webdataset, DALI and other Parquet readers; compare every byte."""

import gc
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from PIL import Image

from pipelines.convert import convert_corpus
from pipelines.import_predictions import ImportPredictionsConfig, import_predictions
from pipelines.steps.corpus_job import ConvertConfig
from tests.corpora import CorpusWriter, flip_byte, images_of, make_corpus, members_of, png_bytes, rows_of
from tests.model.written import prediction, sample, write_dataset, write_predictions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Scans with plain names and with names that are hard for readers."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=48, num_test=8)
    for name in ("with.dots.in", "with space", "ümlaut", "(1)", "x" * 95):
        corpus.add_image(name)
    return corpus


@pytest.fixture(scope="module")
def dataset(corpus, tmp_path_factory):
    """Those scans, converted in several shards."""
    output = tmp_path_factory.mktemp("dataset") / "ds"
    convert_corpus(ConvertConfig(input=str(corpus.root), output=str(output), shard_bytes=15_000))
    assert len(images_of(output)) == 61
    return output


@pytest.fixture(scope="module")
def tars(dataset) -> list[Path]:
    """The tars by name, the order of the rows in `samples`."""
    return sorted(dataset.glob("*/*.tar"), key=lambda path: path.name)


def test_gnu_tar_extracts_the_corpus(corpus, dataset, tars, tmp_path):
    for tar in tars:
        found = subprocess.run(["tar", "-xf", tar, "-C", tmp_path], capture_output=True, text=True, check=True)
        assert found.stderr == ""
    extracted = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert extracted == members_of(dataset)
    originals = sorted(path.read_bytes() for path in corpus.images.iterdir())
    assert sorted(data for name, data in extracted.items() if name.endswith(".jpg")) == originals


def test_webdataset_yields_the_rows_in_their_order(dataset, tars):
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the collector
        samples = list(webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False))
        gc.collect()
    rows = rows_of(dataset)
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in rows]
    images = images_of(dataset)
    for read, row in zip(samples, rows, strict=True):
        assert read["jpg"] == images[row["key"]]
        document = json.loads(read["json"])
        assert document["labels"] == row["labels"] and document["boxes"] == row["boxes"]


def test_dalis_reader_follows_the_index_to_the_same_bytes(dataset, tars):
    fn = pytest.importorskip("nvidia.dali.fn", reason="DALI is not installed: the extra `model` brings it")
    from nvidia.dali import pipeline_def

    @pipeline_def(batch_size=4, num_threads=2, device_id=None)
    def read_shards():
        images, texts = fn.readers.webdataset(
            paths=[str(tar) for tar in tars],
            index_paths=[str(tar.with_suffix(".idx")) for tar in tars],
            ext=["jpg", "json"],
            missing_component_behavior="error",
            name="reader",
        )
        return images, texts

    pipeline = read_shards()
    pipeline.build()
    rows = rows_of(dataset)
    assert pipeline.reader_meta("reader")["epoch_size"] == len(rows)
    found: list[tuple[bytes, bytes]] = []
    while len(found) < len(rows):
        images, texts = pipeline.run()
        found += [(bytes(images.at(i)), bytes(texts.at(i))) for i in range(len(images))]
    members = members_of(dataset)
    expected = [(members[f"{row['key']}.jpg"], members[f"{row['key']}.json"]) for row in rows]
    assert found[: len(rows)] == expected


def test_duckdb_counts_and_joins_without_opening_a_tar(dataset):
    samples = f"'{dataset}/samples/*.parquet'"
    counts = duckdb.sql(f"select split, count(*) from {samples} group by 1 order by 1").fetchall()
    assert counts == [("test", 8), ("train", 48), ("unlisted", 5)]
    positives = duckdb.sql(f"select sum(labels.Gun), count(labels.Gun), count(*) from {samples}").fetchall()
    rows = rows_of(dataset)
    guns = [row["labels"]["Gun"] for row in rows]
    assert positives == [(guns.count(1), len(guns) - guns.count(None), len(guns))]
    boxes = duckdb.sql(f"select b.class, b.xmax_px from (select unnest(boxes) as b from {samples})").fetchall()
    assert sorted(boxes) == sorted((box["class"], box["xmax_px"]) for row in rows for box in row["boxes"])


def test_hugging_face_datasets_loads_the_shards_as_they_are(dataset, tmp_path):
    # Names with dots lie in split `unlisted`: webdataset and `datasets` cut keys at the first one.
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    rows = {row["key"]: row for row in rows_of(dataset) if row["split"] == "train"}
    files = {"train": str(dataset / "train" / "*.tar")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path))["train"]
        assert len(loaded) == len(rows)
        for scan in loaded:
            row = rows[scan["__key__"]]
            assert scan["jpg"].size == (row["width_px"], row["height_px"])
            assert scan["json"]["labels"] == row["labels"]
            assert [box["class"] for box in scan["json"]["boxes"]] == [box["class"] for box in row["boxes"]]


def test_polars_reads_the_rows_as_they_are(dataset):
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    rows = rows_of(dataset)
    table = polars.scan_parquet(f"{dataset}/samples/*.parquet").sort("key").collect()
    assert table.to_dicts() == sorted(
        ({name: row[name] for name in table.columns} for row in rows), key=lambda of: of["key"]
    )
    guns = table.filter(polars.col("labels").struct.field("Gun") == 1)["key"].to_list()
    assert guns == sorted(row["key"] for row in rows if row["labels"]["Gun"] == 1)


def test_predictions_are_read_by_duckdb_and_polars_as_they_are(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample(f"P{n}", (n % 2, 0)) for n in range(6)], num_shards=2)
    rows = [prediction(f"P{n}", (float(n), -1.0), [(n, 2 * n), (0, 0)]) for n in range(6)]
    url = write_predictions(tmp_path / "p", dataset, rows)
    query = (
        f"select p.key, p.peaks.Gun.x_px from '{url}/*.parquet' p join '{dataset.url}/samples/*.parquet' s using (key)"
    )
    found = duckdb.sql(f"{query} where s.labels.Gun = 1 and p.logits.Gun > 2 order by 1").fetchall()
    assert found == [("P3", 3.0), ("P5", 5.0)]
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    table = polars.read_parquet(f"{url}/*.parquet").sort("key")
    assert table["logits"].struct.field("Gun").to_list() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert table["level_logits"][0].to_list()[0] == {"Gun": 0.0, "Knife": -1.0}


def test_hugging_face_datasets_reads_rows_predictions_and_detections_as_they_are(tmp_path):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    scans = [sample(f"P{n}", (1, 0), [("Gun", 1, 2, 3, 4)] * (n % 2)) for n in range(6)]
    small = write_dataset(tmp_path / "ds", scans, num_shards=2)
    found = [
        {"image_id": f"P{n}", "category_id": "Gun", "bbox": [n, 1, 2, 3], "score": n / 8 + 0.25} for n in range(1, 6)
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    config = ImportPredictionsConfig(
        file=str(tmp_path / "found.json"),
        data=small.url,
        output=str(tmp_path / "p"),
        format="coco-detections",
        model_name="detector",
    )
    url = import_predictions(config).predictions_url

    def load(pattern):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path / "hf"))
            return sorted(loaded.to_list(), key=lambda row: row["key"])

    samples = load(f"{small.url}/samples/*.parquet")
    assert [len(row["boxes"]) for row in samples] == [0, 1] * 3
    rows = load(f"{url}/*.parquet")
    assert [row["peaks"]["Gun"] and row["peaks"]["Gun"]["x_px"] for row in rows] == [None, 2, 3, 4, 5, 6]
    boxes = load(f"{url}/detections/*.parquet")
    assert [(row["key"], row["xmin_px"], row["score"]) for row in boxes] == [
        (f"P{n}", float(n), n / 8 + 0.25) for n in range(1, 6)
    ]


class FiftyOneSample(SimpleNamespace):
    def __setitem__(self, name, value):
        setattr(self, name, value)

    def __getitem__(self, name):
        return getattr(self, name)


@pytest.mark.parametrize("is_real", [True, False], ids=["fiftyone", "stand-in"])
def test_the_fiftyone_code_of_the_readme_makes_a_sample_of_every_scan(corpus, tmp_path, monkeypatch, is_real):
    if is_real:
        fiftyone = pytest.importorskip("fiftyone", reason="FiftyOne is not installed: see tests/README.md")
    else:
        parts = dict.fromkeys(["Detection", "Detections", "Classification", "Classifications"], SimpleNamespace)
        fiftyone = SimpleNamespace(**parts, Sample=FiftyOneSample, Dataset=None)
        monkeypatch.setitem(sys.modules, "fiftyone", fiftyone)

    class Samples(list[Any]):  # in place of FiftyOne's database, which needs MongoDB
        def __init__(self, _name):
            super().__init__()

        add_sample = list.append

    monkeypatch.setattr(fiftyone, "Dataset", Samples)
    copy = CorpusWriter(shutil.copytree(corpus.root, tmp_path / "corpus"))
    copy.add_image("a.png", png_bytes(), suffix=".png")
    dataset, images = tmp_path / "ds", tmp_path / "images"
    convert_corpus(ConvertConfig(input=str(copy.root), output=str(dataset)))
    images.mkdir()
    page = (ROOT / "shards/README.md").read_text().replace("DATASET", str(dataset)).replace("IMAGES", str(images))
    (extract,) = re.findall(r"`(for tar in [^`]*)`", page)
    subprocess.run(["bash", "-ec", extract], check=True)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import fiftyone" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    rows = {row["key"]: row for row in rows_of(dataset)}
    assert len(names["scans"]) == len(rows)
    for scan in names["scans"]:
        row = rows[Path(scan.filepath).stem]
        assert hashlib.sha256(Path(scan.filepath).read_bytes()).hexdigest() == row["sha256"]
        boxes = scan.boxes.detections or []
        assert [box.label for box in boxes] == [box["class"] for box in row["boxes"]]
        for box, of in zip(boxes, row["boxes"], strict=True):
            left, top, width, height = box.bounding_box
            found = (left * row["width_px"], (top + height) * row["height_px"], width > 0)
            assert found == (pytest.approx(of["xmin_px"]), pytest.approx(of["ymax_px"]), True)
        present = {name for name, value in row["labels"].items() if value}
        assert {of.label for of in scan["labels"].classifications or []} == present


def test_pillow_decodes_one_range_of_a_tar(dataset):
    for row in rows_of(dataset):
        with (dataset / row["split"] / row["shard"]).open("rb") as tar:
            tar.seek(row["offset_bytes"])
            image = Image.open(io.BytesIO(tar.read(row["size_bytes"])))
        image.load()
        assert image.size == (row["width_px"], row["height_px"])


def test_a_reader_would_notice(dataset, tmp_path):
    """The comparison above can fail: another byte in the tar is another member."""
    before = members_of(dataset)
    copy = tmp_path / "train"
    copy.mkdir()
    tar = sorted(dataset.glob("train/*.tar"))[0]
    (copy / tar.name).write_bytes(tar.read_bytes())
    flip_byte(copy / tar.name, 700)
    after = members_of(tmp_path)
    assert sum(before[name] != data for name, data in after.items()) == 1
