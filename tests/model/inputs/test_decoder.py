"""Compare decoded images with Pillow's, and recover from bad ones."""

import dataclasses
import io
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.hardware import detect_hardware
from model.inputs import dali_pipeline
from model.inputs.decoder import BatchDecoder
from model.networks.config import InputConfig
from shards.images.decode import decode_image
from tests.shards.by_hand import absurd_header, bogus_huffman, make_jpeg

CONFIG = InputConfig(size_px=64)
CPU = dataclasses.replace(detect_hardware(), device="cpu", decode_device="cpu", num_cores=2)
IMAGES = [make_jpeg(number) for number in range(11)]
BAD = {
    "empty": b"",
    "zeros": bytes(500),
    "text": b"not a picture at all",
    "cut": IMAGES[0][: len(IMAGES[0]) // 2],
    "header alone": IMAGES[0][:40],
    "huffman": bogus_huffman(IMAGES[0]),
    "absurd": absurd_header(IMAGES[0]),
}


@pytest.fixture(scope="module")
def decoder():
    return BatchDecoder(CONFIG, CPU, batch_size=11)


@pytest.fixture(scope="module")
def sound(decoder):
    images, errors, _ = decoder.decode(IMAGES)
    assert errors == {}
    return images


def as_pillow_sees(jpeg):
    """Second implementation: decode, squash with antialiased bilinear, normalise."""
    side = CONFIG.size_px
    with Image.open(io.BytesIO(jpeg)) as image:
        pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    return ((pixels / 255 - CONFIG.mean) / CONFIG.std).transpose(2, 0, 1)


def grey_levels_apart(image, jpeg):
    return np.abs(image - as_pillow_sees(jpeg)) * np.array(CONFIG.std)[:, None, None] * 255


def test_squashed_images_are_those_of_pillow_within_two_grey_levels(sound):
    for image, jpeg in zip(sound.numpy(), IMAGES, strict=True):
        difference = grey_levels_apart(image, jpeg)
        assert difference[:, 1:-1, 1:-1].max() <= 2.01  # both round to whole levels
        # Beyond the border DALI repeats the last pixel, Pillow drops it from the mean.
        assert difference.max() <= 16
        assert difference.mean() <= 0.2


def test_an_image_of_the_networks_size_is_pillows_to_the_bit(decoder):
    rng = np.random.default_rng(0)
    for _ in range(3):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(out, "JPEG", quality=75)
        images, *_ = decoder.decode([out.getvalue()])
        assert grey_levels_apart(images[0].numpy(), out.getvalue()).max() < 1e-4


def test_an_orientation_tag_turns_no_scan_for_sizes_and_boxes_are_those_of_the_stored_one(decoder):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    out = io.BytesIO()
    with Image.open(io.BytesIO(make_jpeg(3, 120, 70))) as image:
        image.save(out, "JPEG", quality=95, exif=exif)
    (image,) = decoder.decode([out.getvalue()]).images_BCHW.numpy()
    assert grey_levels_apart(image, out.getvalue()).max() <= 2.5


def pictures_with_transparency_or_16_bits() -> dict[str, Image.Image]:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    colours = np.stack([(ramp >> shift).astype(np.uint8) for shift in (8, 4, 2, 6)], axis=2)
    palette = Image.fromarray(colours[:, :, 0] % 4).convert("P")
    return {
        "16": Image.fromarray(ramp),
        "RGBA": Image.fromarray(colours),
        "LA": Image.merge("LA", [Image.fromarray(colours[:, :, at]) for at in (2, 3)]),
        "P": palette,
    }


@pytest.mark.parametrize("resize_px", [None, 64], ids=["scoring", "training"])
def test_pngs_of_16_bits_and_with_transparency_are_seen_alike_everywhere(resize_px):
    decoder = BatchDecoder(CONFIG, CPU, batch_size=4, resize_px=resize_px)
    encoded = []
    for name, image in pictures_with_transparency_or_16_bits().items():
        out = io.BytesIO()
        image.save(out, "PNG", **({"transparency": 2} if name == "P" else {}))
        encoded.append(out.getvalue())
    images, errors, _ = decoder.decode(encoded, None if resize_px is None else np.ones((4, 3)))  # not mirrored
    assert errors == {}
    mean, std = (np.array(values)[:, None, None] for values in (CONFIG.mean, CONFIG.std))
    for data, image in zip(encoded, images.numpy(), strict=True):
        seen = np.asarray(decode_image(data).convert("RGB"), dtype=np.float32).transpose(2, 0, 1)
        assert np.abs((image * std + mean) * 255 - seen).max() < 1e-3


def test_a_damaged_png_with_transparency_costs_its_own_place_alone(decoder):
    out = io.BytesIO()
    Image.new("RGBA", (30, 30), (9, 9, 9, 9)).save(out, "PNG")
    images, errors, _ = decoder.decode([IMAGES[0], out.getvalue()[:-30], IMAGES[1]])
    assert list(errors) == [1] and "truncated_png" in errors[1]
    assert images[0].any() and not images[1].any() and images[2].any()


def test_images_are_float32_and_channels_last(sound):
    assert sound.shape == (11, 3, 64, 64)
    assert sound.dtype == torch.float32
    assert sound.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@given(bad=st.dictionaries(st.integers(0, 10), st.sampled_from(sorted(BAD)), max_size=4))
@settings(max_examples=20, deadline=None)
def test_bad_images_are_named_and_their_neighbours_are_equal_to_the_bit(decoder, sound, bad):
    images, errors, _ = decoder.decode([BAD[bad[place]] if place in bad else IMAGES[place] for place in range(11)])
    assert set(errors) == set(bad)
    for place in range(11):
        assert torch.equal(images[place], torch.zeros(3, 64, 64) if place in bad else sound[place])


@given(empty=st.sets(st.integers(0, 10)))
@settings(max_examples=10, deadline=None)
def test_an_empty_place_is_zeros_and_moves_no_neighbour(decoder, sound, empty):
    images, errors, _ = decoder.decode([None if place in empty else IMAGES[place] for place in range(11)])
    assert errors == {}
    for place in range(11):
        assert torch.equal(images[place], torch.zeros(3, 64, 64) if place in empty else sound[place])


def test_the_decoders_words_are_kept_without_its_traceback(decoder):
    _, errors, _ = decoder.decode([IMAGES[0], BAD["cut"], BAD["zeros"]])
    assert "Failed to decode" in errors[1]
    assert "nvImageCodec failure" in errors[2]
    assert all(".py" not in words for words in errors.values())


def test_a_batch_goes_on_after_any_number_of_lost_pipelines(decoder, sound):
    for _ in range(5):
        decoder.decode([BAD["zeros"], IMAGES[1]])
    images, errors, _ = decoder.decode(IMAGES)
    assert errors == {}
    assert torch.equal(images, sound)


@pytest.mark.slow
@given(bad=st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 10)), st.sampled_from(sorted(BAD)), max_size=4))
@settings(max_examples=10, deadline=None)
def test_batches_decoded_ahead_are_those_decoded_one_by_one_also_beside_bad_images(decoder, sound, bad):
    batches = [[BAD[bad[n, place]] if (n, place) in bad else IMAGES[place] for place in range(11)] for n in range(6)]
    found = list(decoder.decode_ahead((n, batch, None) for n, batch in enumerate(batches)))
    assert [n for n, _ in found] == list(range(6))
    for n, (images, errors, _) in found:
        assert set(errors) == {place for at, place in bad if at == n}
        for place in range(11):
            assert torch.equal(images[place], torch.zeros(3, 64, 64) if place in errors else sound[place])


def test_a_caller_that_stops_early_leaves_a_decoder_that_works(decoder, sound):
    ahead = decoder.decode_ahead((n, IMAGES[n:], None) for n in range(9))
    assert torch.equal(next(ahead)[1].images_BCHW, sound)
    ahead.close()
    assert torch.equal(decoder.decode(IMAGES[5:]).images_BCHW, sound[5:])


def test_images_stay_as_they_are_while_later_batches_are_decoded(decoder, sound):
    kept = [found.images_BCHW for _, found in decoder.decode_ahead((n, IMAGES[n:], None) for n in range(11))]
    assert all(torch.equal(images, sound[n:]) for n, images in enumerate(kept))


def test_a_sound_image_that_dali_refuses_is_decoded_nevertheless(decoder, sound, monkeypatch):
    start = dali_pipeline.DecodingPipeline.start
    refused = len(IMAGES[4])

    def start_unless_refused(self, encoded, augmentations_P3):
        start(self, [np.zeros(9, np.uint8) if len(one) == refused else one for one in encoded], augmentations_P3)

    monkeypatch.setattr(dali_pipeline.DecodingPipeline, "start", start_unless_refused)
    images, errors, _ = decoder.decode(IMAGES)
    assert errors == {}
    assert torch.equal(images, sound)


@pytest.mark.slow
def test_a_sound_image_is_not_called_undecodable_because_memory_ended():
    """In a process of its own: what DALI holds in this one since other tests may be enough for the image."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        pool.submit(decode_where_memory_ends).result()


def decode_where_memory_ends():
    decoder = BatchDecoder(CONFIG, CPU, batch_size=3)
    sound = decoder.decode(IMAGES[:2]).images_BCHW.clone()
    out = io.BytesIO()
    Image.new("RGB", (9400, 9400), "white").save(out, "JPEG")
    batch = [IMAGES[0], out.getvalue(), IMAGES[1]]
    status = Path("/proc/self/status").read_text()
    used_bytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmSize")) * 1024
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 250_000_000, limits[1]))
    try:
        with pytest.raises(MemoryError, match=r"got one of 9400 x 9400 pixels that does not.*image 1 of a batch of 3"):
            decoder.decode(batch)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    images, errors, _ = decoder.decode(batch)
    assert errors == {}
    assert torch.equal(images[[0, 2]], sound)


def test_a_machine_that_decodes_nothing_blames_no_scan(decoder, monkeypatch):
    monkeypatch.setattr(dali_pipeline, "_sound_image", lambda: bytes(10))
    with pytest.raises(RuntimeError, match=r"DALI must decode a sound image, got .*; the machine is at fault"):
        decoder.decode([IMAGES[0], BAD["zeros"]])


def test_an_empty_batch_is_no_image(decoder):
    images, errors, _ = decoder.decode([])
    assert images.shape == (0, 3, 64, 64)
    assert errors == {}


def test_a_batch_of_no_size_is_refused():
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        BatchDecoder(CONFIG, CPU, batch_size=0)
