"""Run scans in other formats than JPEG through convert, verify, webdataset and the decoder."""

import dataclasses
import gc
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from shards.format.dataset import open_dataset
from shards.format.shard_reader import read_rows, read_scans
from tests.corpora import CorpusWriter, png_bytes
from tests.shards.plain_calls import convert_plainly

MODES = ["1", "L", "LA", "P", "RGB", "RGBA"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """PNGs of every kind beside JPEGs."""
    corpus = CorpusWriter(tmp_path_factory.mktemp("c"))
    for number, mode in enumerate(MODES):
        corpus.add_image(f"picture {mode} ({number})", png_bytes(number, (64, 64), mode), suffix=".png")
        corpus.add_image(f"scan {number}", suffix=".jfif")
    output = tmp_path_factory.mktemp("ds") / "ds"
    convert_plainly(corpus.root, output, layout="images")
    return open_dataset(str(output))


def scans_of(dataset):
    return [
        scan
        for shard in dataset.shards()
        for batch in read_scans(dataset.tar_url(shard), read_rows(dataset.samples_url(shard), shard.num_scans), 5)
        for scan in batch
    ]


def test_the_reader_of_scoring_refuses_none(dataset):
    scans = scans_of(dataset)
    assert len(scans) == 2 * len(MODES)
    assert [scan.refusal for scan in scans] == [None] * len(scans)


def test_dali_sees_what_pillow_sees(dataset):
    pytest.importorskip("nvidia.dali", reason="DALI is not installed: the extra `model` brings it")
    from model.hardware import detect_hardware
    from model.inputs.decoder import BatchDecoder
    from model.networks.config import InputConfig, ModelConfig

    config = ModelConfig(backbone="resnet18", classes=("Gun",), input=InputConfig(size_px=64))
    hardware = dataclasses.replace(detect_hardware(), device="cpu", decode_device="cpu", num_cores=2)
    images = [scan.image for scan in scans_of(dataset) if (scan.row.width_px, scan.row.height_px) == (64, 64)]
    assert len(images) == len(MODES)
    decoded, errors, _ = BatchDecoder(config.input, hardware, batch_size=8).decode(images)
    assert errors == {}
    for found, data in zip(decoded.numpy(), images, strict=True):
        assert data is not None
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) / 255
        assert np.abs(found.transpose(1, 2, 0) * config.input.std + config.input.mean - expected).max() < 1e-4


def test_webdataset_gives_each_its_own_extension(dataset):
    import webdataset

    tars = [dataset.tar_url(shard) for shard in dataset.shards()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the collector
        samples = list(webdataset.WebDataset(tars, shardshuffle=False))
        gc.collect()
    kinds = sorted(name for sample in samples for name in sample if name in ("jpg", "png"))
    assert kinds == ["jpg"] * len(MODES) + ["png"] * len(MODES)
