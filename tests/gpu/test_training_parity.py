"""CPU and GPU must agree: decoding, logits, and one step of training."""

from dataclasses import replace

import pytest
import torch

from model.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from model.feed import FeedConfig, TrainingFeed
from model.hardware import detect_hardware
from model.network import build_network
from model.recipes import demo
from model.samples import load_samples
from model.train import train
from tests.model.scans import make_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def feed_of(samples, **device):
    config = FeedConfig(
        batch_size=8,
        crop_px=56,
        resize_px=64,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        num_threads=2,
        **device,
    )
    return TrainingFeed(samples, config)


def test_both_decoders_give_the_same_batches_within_a_stated_tolerance(tmp_path):
    samples = load_samples(make_dataset(tmp_path), "train")
    on_cpu = list(feed_of(samples, decode_device="cpu"))
    on_gpu = list(feed_of(samples, decode_device="mixed", device_id=0))
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        assert gpu.images_BCHW.is_cuda
        assert torch.equal(cpu.rows_B, gpu.rows_B)
        # nvJPEG's inverse transform and chroma upsampling differ from libjpeg-turbo's by a few of 255.
        difference = (cpu.images_BCHW - gpu.images_BCHW.cpu()).abs() * 255 * 0.225
        assert difference.mean() < 2


def test_logits_agree_within_a_stated_tolerance():
    network = build_network(ModelConfig(backbone="resnet18", classes=("Gun", "Knife"))).eval()
    images = torch.rand(4, 3, 224, 224)
    with torch.inference_mode():
        on_cpu = network(images).level_logits_LBK
        on_gpu = network.cuda()(images.cuda()).level_logits_LBK.cpu()
    torch.testing.assert_close(on_cpu, on_gpu, rtol=1e-2, atol=2e-3)  # TF32 convolutions


def test_a_run_on_the_gpu_ends_with_a_model(tmp_path):
    dataset = make_dataset(tmp_path / "data", num_train=64)
    config = replace(demo(), image_size_px=64, resize_px=72, max_epochs=2, validation_fraction=0.2)
    result = train(dataset, str(tmp_path / "run"), config, hardware=detect_hardware())
    assert result.model.provenance["epoch"] in (1, 2)
