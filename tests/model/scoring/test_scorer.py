"""A shard's scores are those of the plain network, and every scan is accounted for."""

import dataclasses

import numpy as np
import pytest
import torch

from model.artifacts.saved_model import load_model, save_model
from model.hardware import detect_hardware
from model.inputs.decoder import BatchDecoder
from model.networks.config import InputConfig, ModelConfig
from model.networks.registry import build_network
from model.scoring.engine_selection import EngineRequest
from model.scoring.scorer import Scorer, ShardFiles
from model.scoring.scoring_network import ScoringNetwork, StartedBatch, measure_images
from shards.format.parquet import IMAGE_FIELD, QUARANTINE_SCHEMA, predictions_schema
from shards.format.shard_reader import read_rows
from shards.predictions.parts import Engine
from tests.model.inputs.test_decoder import as_pillow_sees
from tests.shards.by_hand import CLASSES, bogus_huffman, make_jpeg, overwrite, write_dataset

CONFIG = ModelConfig(backbone="resnet10t", classes=CLASSES, input=InputConfig(size_px=64))
CPU = dataclasses.replace(detect_hardware(), device="cpu", dtype="float32", decode_device="cpu", num_cores=2)
IMAGES = [(f"N{number:05d}", make_jpeg(number)) for number in range(13)]
NAME = "test-00000-of-00001"


@pytest.fixture(scope="module")
def model_url(tmp_path_factory):
    torch.manual_seed(0)
    url = str(tmp_path_factory.mktemp("model"))
    save_model(url, build_network(CONFIG), CONFIG)
    return url


@pytest.fixture(scope="module")
def network(model_url):
    return ScoringNetwork(load_model(model_url), CPU)


@pytest.fixture(scope="module")
def scorer(network):
    return Scorer(network, batch_size=5)


@pytest.fixture
def shard(tmp_path):
    return written(tmp_path, IMAGES)


def written(root, images):
    dataset = write_dataset(root, {NAME: images})
    (info,) = dataset.shards()
    files = ShardFiles.of(dataset, info)
    return files, read_rows(files.samples_url, info.num_scans)


def logits_of(scores):
    return {row["key"]: row["logits"] for row in scores.predictions.to_pylist()}


def test_logits_and_peaks_are_those_of_the_plain_network_scan_by_scan(scorer, model_url, shard):
    files, rows = shard
    plain = load_model(model_url).network
    for row, (_, jpeg), found in zip(rows, IMAGES, scorer.score_shard(files).predictions.to_pylist(), strict=True):
        with torch.no_grad():
            output = plain(torch.from_numpy(as_pillow_sees(jpeg)).float()[None])
        for k, name in enumerate(CLASSES):
            # Pillow and DALI differ by up to a few grey levels where an edge is resampled.
            assert found["logits"][name] == pytest.approx(float(output.logits_BK[0, k]), abs=0.02)
            levels = [level[name] for level in found["level_logits"]]
            assert levels == pytest.approx(output.level_logits_LBK[:, 0, k].tolist(), abs=0.02)
            assert found["logits"][name] == pytest.approx(np.mean(levels), abs=1e-5)
            peak = found["peaks"][name]
            assert peak["level"] in (1, 2, 3)
            assert 0 < peak["x_px"] < row.width_px and 0 < peak["y_px"] < row.height_px
            highest = max(float(heatmap[0, k].max()) for heatmap in output.heatmaps)
            assert peak["value"] == pytest.approx(highest, abs=0.05)


def test_logits_are_those_of_the_same_pixels_one_at_a_time(scorer, network, model_url, shard):
    files, rows = shard
    plain = load_model(model_url).network
    found = logits_of(scorer.score_shard(files))
    decoder = BatchDecoder(CONFIG.input, CPU, batch_size=1)
    for row, (key, jpeg) in zip(rows, IMAGES, strict=True):
        (image,), *_ = decoder.decode([jpeg])
        with torch.no_grad():
            logits = plain(image[None].contiguous()).logits_BK[0].tolist()
        assert list(found[key].values()) == pytest.approx(logits, abs=1e-4), row.key


def test_tables_have_their_schemas_and_tar_order(scorer, shard):
    files, _ = shard
    scores = scorer.score_shard(files)
    assert scores.predictions.schema.equals(predictions_schema(CLASSES).append(IMAGE_FIELD))
    assert scores.quarantine.schema.equals(QUARANTINE_SCHEMA)
    assert scores.predictions["key"].to_pylist() == [key for key, _ in IMAGES]
    assert set(scores.predictions["split"].to_pylist()) == {"test"}
    assert scores.num_read_bytes == sum(len(jpeg) for _, jpeg in IMAGES)
    scores.predictions.validate(full=True)


def test_every_scan_has_its_size_brightness_and_entropy(scorer, shard):
    files, rows = shard
    found = {row["key"]: row["image"] for row in scorer.score_shard(files).predictions.to_pylist()}
    decoder = BatchDecoder(CONFIG.input, CPU, batch_size=1)
    for row, (key, jpeg) in zip(rows, IMAGES, strict=True):
        (image,), *_ = decoder.decode([jpeg])
        step = max(CONFIG.input.size_px // 56, 1)
        mean, std = (np.array(of)[:, None, None] for of in (CONFIG.input.mean, CONFIG.input.std))
        grey = np.clip((image.numpy() * std + mean).mean(axis=0)[::step, ::step], 0, 1)
        assert found[key]["brightness"] == pytest.approx(grey.mean(), abs=1e-3)
        shares = np.bincount((grey * 255).round().astype(int).ravel() // 4, minlength=64) / grey.size
        expected = -sum(share * np.log2(share) for share in shares if share)
        assert found[key]["entropy_bits"] == pytest.approx(expected, abs=0.02)
        assert (found[key]["width_px"], found[key]["height_px"]) == (row.width_px, row.height_px)
    assert len({of["brightness"] for of in found.values()}) > 1


def normalised(grey_HW):
    mean, std = (torch.tensor(of)[:, None, None] for of in (CONFIG.input.mean, CONFIG.input.std))
    return ((grey_HW - mean) / std)[None]


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_an_image_of_one_grey_has_that_brightness_and_no_entropy(level):
    found = measure_images(normalised(torch.full((112, 112), level)), CONFIG.input)
    assert found.numpy() == pytest.approx(np.array([[level, 0.0]]), abs=1e-6)


def test_an_image_half_black_and_half_white_has_one_bit():
    grey_HW = torch.zeros(112, 112)
    grey_HW[:, 56:] = 1
    assert measure_images(normalised(grey_HW), CONFIG.input).numpy() == pytest.approx(np.array([[0.5, 1.0]]), abs=1e-6)


def test_a_shard_scored_twice_gives_equal_tables(scorer, shard):
    one, two = (scorer.score_shard(shard[0]) for _ in range(2))
    assert one.predictions.equals(two.predictions)


def test_damaged_scans_cost_their_own_rows_and_neighbours_are_equal_to_the_bit(scorer, shard):
    files, rows = shard
    sound = logits_of(scorer.score_shard(files))
    overwrite(files.tar_url, rows[2].offset_bytes, bytes(rows[2].size_bytes))
    overwrite(files.tar_url, rows[7].offset_bytes + 300, b"\x00\x01")
    scores = scorer.score_shard(files)
    bad = {rows[2].key, rows[7].key}
    assert logits_of(scores) == {key: logits for key, logits in sound.items() if key not in bad}
    refused = scores.quarantine.to_pylist()
    assert [(row["key"], row["stage"], row["reason"]) for row in refused] == [
        (rows[2].key, "score", "checksum_mismatch"),
        (rows[7].key, "score", "checksum_mismatch"),
    ]
    assert refused[0]["source_uri"] == rows[2].source_uri


def test_a_scan_that_only_the_decoder_finds_bad_costs_its_own_row(scorer, tmp_path):
    images = list(IMAGES)
    images[6] = ("N00006", bogus_huffman(IMAGES[6][1]))
    sound = logits_of(scorer.score_shard(written(tmp_path / "sound", IMAGES)[0]))
    files, rows = written(tmp_path / "bad", images)
    scores = scorer.score_shard(files)
    assert logits_of(scores) == {key: logits for key, logits in sound.items() if key != "N00006"}
    (refused,) = scores.quarantine.to_pylist()
    assert (refused["key"], refused["reason"], refused["sha256"]) == ("N00006", "undecodable", rows[6].sha256)


def test_a_shard_that_is_gone_is_quarantined_row_by_row(scorer, shard, tmp_path):
    files, rows = shard
    scores = scorer.score_shard(files._replace(tar_url=str(tmp_path / "none.tar")))
    assert scores.predictions.num_rows == 0
    assert scores.predictions.schema.equals(predictions_schema(CLASSES).append(IMAGE_FIELD))
    assert scores.quarantine["key"].to_pylist() == [row.key for row in rows]
    assert set(scores.quarantine["reason"].to_pylist()) == {"missing_shard"}


def test_a_logit_that_is_no_number_is_refused_by_name(model_url, shard):
    files, _ = shard
    model = load_model(model_url)
    with torch.no_grad():
        dict(model.network.named_parameters())["classifiers.0.score.bias"][1] = float("nan")
    scores = Scorer(ScoringNetwork(model, CPU), batch_size=4).score_shard(files)
    assert scores.predictions.num_rows == 0
    assert set(scores.quarantine["reason"].to_pylist()) == {"not_finite"}


def test_every_batch_is_reported(scorer, shard):
    reports = []
    scorer.score_shard(shard[0], report=lambda *values: reports.append(values))
    assert [num for num, _ in reports] == [5, 5, 3]
    assert sum(num_bytes for _, num_bytes in reports) == sum(len(jpeg) for _, jpeg in IMAGES)


def test_logits_under_bf16_are_float32_and_near(model_url, scorer, shard):
    files, _ = shard
    low = Scorer(ScoringNetwork(load_model(model_url), CPU, EngineRequest(dtype="bfloat16")), batch_size=5)
    assert low.engine == Engine("dali-cpu", "cpu", "bfloat16", 5)
    near = logits_of(low.score_shard(files))
    for key, logits in logits_of(scorer.score_shard(files)).items():
        assert list(near[key].values()) == pytest.approx(list(logits.values()), abs=0.05)


def test_an_error_of_the_reader_stops_the_shard(scorer, shard, tmp_path):
    with pytest.raises(IsADirectoryError):
        scorer.score_shard(shard[0]._replace(tar_url=str(tmp_path)))


@pytest.mark.parametrize("field", ["logits_BK", "level_logits_LBK", "peaks_B4K"])
def test_a_scan_with_a_nan_in_any_output_is_refused(scorer, shard, field, monkeypatch):
    result_of = StartedBatch.result

    def spoil(started):
        scores = result_of(started)
        values = getattr(scores, field).copy()
        values[..., 0][:1] = np.nan
        return scores._replace(**{field: values})

    monkeypatch.setattr(StartedBatch, "result", spoil)
    found = scorer.score_shard(shard[0])
    assert set(found.quarantine["reason"].to_pylist()) == {"not_finite"}
