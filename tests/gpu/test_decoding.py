"""A GPU decodes as the processor does: the same pixels, the same refusals, and nothing of a neighbour."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from model.inputs.decoder import BatchDecoder, use_on_current_stream
from model.inputs.feeds import FeedConfig, TrainingFeed
from model.inputs.sample_table import load_sample_table
from model.networks.config import InputConfig
from tests.bench.scoring import make_scans
from tests.gpu.machines import CPU, GPU
from tests.model.scans import make_dataset
from tests.shards.by_hand import absurd_header, bogus_huffman

CONFIG = InputConfig(size_px=224)
SCANS = make_scans(24)
BUSY_CYCLES = 1_000_000_000
"""Half a second or more."""


@pytest.fixture(scope="module")
def decoder():
    return BatchDecoder(CONFIG, GPU, batch_size=24)


@pytest.fixture(scope="module")
def sound(decoder):
    images, errors, _ = decoder.decode(SCANS)
    assert errors == {}
    return images.clone()


def grey_levels_apart(on_cpu, on_gpu):
    std_C11 = torch.tensor(CONFIG.std)[:, None, None]
    return (on_cpu - on_gpu.cpu()).abs() * std_C11 * 255


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def formats():
    with Image.open(io.BytesIO(SCANS[0])) as image:
        image.load()
    return {
        "baseline": SCANS[0],
        "grey": encode(image.convert("L"), "JPEG"),
        "full chroma": encode(image, "JPEG", subsampling=0),
        "progressive": encode(image, "JPEG", progressive=True),
        "large": encode(image.resize((4000, 3000)), "JPEG"),
        "PNG": encode(image, "PNG"),
        "PNG with transparency": encode(image.convert("RGBA"), "PNG"),
    }


@pytest.mark.parametrize("trim_margins", [False, True])
def test_pixels_are_the_processors_within_a_level_of_grey(trim_margins):
    config = replace(CONFIG, trim_margins=trim_margins)
    images = [*formats().values(), *SCANS[:8]]
    on_cpu, on_gpu = (BatchDecoder(config, device, batch_size=16).decode(images) for device in (CPU, GPU))
    assert on_cpu.errors == on_gpu.errors == {}
    assert torch.equal(on_cpu.windows_B4, on_gpu.windows_B4)
    apart = grey_levels_apart(on_cpu.images_BCHW, on_gpu.images_BCHW)
    assert apart.max() <= 4  # of a window of trimmed margins, or of a progressive image in CUDA kernels
    assert apart.mean(dim=(1, 2, 3)).max() < 0.25
    assert apart[len(formats()) :].max() <= 1.01


def test_images_lie_on_the_gpu_channels_last_in_float32(sound):
    assert sound.is_cuda and sound.dtype == torch.float32
    assert sound.is_contiguous(memory_format=torch.channels_last)


def test_an_image_is_the_same_to_the_bit_alone_in_a_batch_and_in_a_short_last_batch(decoder, sound):
    alone = torch.cat([decoder.decode([scan]).images_BCHW for scan in SCANS])
    assert torch.equal(alone, sound)
    assert torch.equal(decoder.decode(SCANS[:5]).images_BCHW, sound[:5])


def test_bad_images_are_refused_as_on_a_processor_and_move_no_neighbour(decoder, sound):
    bad = {
        3: bogus_huffman(SCANS[3]),
        7: SCANS[7][: len(SCANS[7]) // 2],
        11: b"not a picture at all",
        12: absurd_header(SCANS[12]),
        20: SCANS[20][:-2],
    }
    scans = [bad.get(place, scan) for place, scan in enumerate(SCANS)]
    refused = BatchDecoder(CONFIG, CPU, batch_size=24).decode(scans).errors
    images, errors, _ = decoder.decode(scans)
    assert errors.keys() == refused.keys()
    for place in range(len(SCANS)):
        assert torch.equal(images[place], torch.zeros_like(sound[0]) if place in errors else sound[place])
    assert torch.equal(decoder.decode(SCANS).images_BCHW, sound)


def test_batches_decoded_ahead_beside_bad_ones_are_those_decoded_one_by_one(decoder, sound):
    batches = [SCANS[n:] for n in range(9)]
    batches[4] = [bogus_huffman(SCANS[4]), *SCANS[5:]]
    for n, (images, errors, _) in decoder.decode_ahead((n, batch, None) for n, batch in enumerate(batches)):
        assert list(errors) == ([0] if n == 4 else [])
        expected = sound[n:].clone()
        expected[list(errors)] = 0
        assert torch.equal(images, expected)


def test_no_image_is_overwritten_while_the_networks_stream_is_behind(decoder, sound):
    """The stream that uses the images waits, they are forgotten in Python, and the decoder goes on meanwhile."""
    uses = []
    torch.cuda._sleep(BUSY_CYCLES)
    for n, (images, _, _) in decoder.decode_ahead((n, SCANS[n % 5 :], None) for n in range(40)):
        uses.append((n, use_on_current_stream(images).clone()))
        del images
    torch.cuda.synchronize()
    assert all(torch.equal(used, sound[n % 5 :]) for n, used in uses)


def test_training_takes_the_same_batches_beside_a_busy_stream(tmp_path):
    samples = load_sample_table(make_dataset(tmp_path, num_train=256), "train")
    config = FeedConfig(batch_size=8, input=CONFIG, resize_px=256, hardware=GPU)

    def sums(is_busy):
        found: list[torch.Tensor] = []
        for batch in TrainingFeed(samples, config):
            if is_busy and not found:
                torch.cuda._sleep(BUSY_CYCLES)
            found.append(batch.images_BCHW.double().sum(dim=(1, 2, 3)))
            del batch
        return torch.cat(found)

    assert torch.equal(sums(False), sums(True))


def test_training_takes_the_processors_batches_within_a_level_of_grey(tmp_path):
    samples = load_sample_table(make_dataset(tmp_path), "train")
    config = FeedConfig(batch_size=8, input=CONFIG, resize_px=256, hardware=CPU)
    on_cpu, on_gpu = (list(TrainingFeed(samples, replace(config, hardware=device))) for device in (CPU, GPU))
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        assert torch.equal(cpu.rows_B, gpu.rows_B)
        assert np.array_equal(cpu.boxes.edges_M4, gpu.boxes.edges_M4)
        apart = grey_levels_apart(cpu.images_BCHW, gpu.images_BCHW)
        assert apart.max() <= 2.01 and apart.mean() < 0.1


def test_a_sound_image_that_exceeds_the_gpus_memory_is_no_undecodable_one(decoder, sound):
    image = encode(Image.new("RGB", (9000, 9000), "white"), "JPEG")
    free_bytes, _ = torch.cuda.mem_get_info()
    hoard = torch.empty(max(0, free_bytes - 300_000_000), dtype=torch.uint8, device="cuda")
    try:
        images, errors, _ = decoder.decode([SCANS[0], image, SCANS[1]])
    except MemoryError as error:
        assert "9000 x 9000" in str(error)
    else:
        assert errors == {} and torch.equal(images[[0, 2]], sound[:2])
    finally:
        del hoard  # a failure's traceback would keep it for all tests after this one
        torch.cuda.empty_cache()
    assert torch.equal(decoder.decode(SCANS).images_BCHW, sound)
