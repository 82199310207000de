"""Views and mixtures of scans are the same on a GPU, where images lie, while labels and boxes come from memory."""

import numpy as np
import pytest
import torch

from model.inputs.augmentation import AugmentationConfig, epoch_variations, vary
from model.inputs.batch import Batch, Boxes
from model.inputs.mixing import epoch_partners, mix, with_partners
from model.networks.config import InputConfig

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device: make test-gpu", allow_module_level=True)

INPUT = InputConfig(size_px=64)
CONFIGS = {
    "views": AugmentationConfig(scale=0.4, aspect=0.3),
    "turns": AugmentationConfig(upside_down=True, quarter_turns=True),
    "all": AugmentationConfig(scale=0.4, aspect=0.3, exposure=0.5, upside_down=True, quarter_turns=True, mixed=0.5),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_views_and_mixtures_on_a_gpu_are_those_of_a_processor(config):
    coded_B, partners_E = np.arange(8), epoch_partners(8, config.mixed, seed=1, epoch=0)
    asked_B = with_partners(coded_B, partners_E)
    num = len(asked_B)
    generator = torch.Generator().manual_seed(0)
    edges_M4 = torch.rand(num, 4, generator=generator).sort(dim=1).values
    numbers = torch.arange(num)
    boxes = Boxes(edges_M4, torch.ones(num), numbers, numbers % 2)
    labels_BK = (torch.rand(num, 2, generator=generator) < 0.5).float()
    images_BCHW = torch.randn(num, 3, 64, 64, generator=generator).contiguous(memory_format=torch.channels_last)
    draws_B7 = np.concatenate([epoch_variations(8, 1, 0), epoch_variations(8, 1, 0, stream=5)])[asked_B]

    def prepare(device):
        zeros_B = torch.zeros(num, dtype=torch.int64)
        batch = Batch(images_BCHW.to(device), labels_BK, numbers, boxes, zeros_B, zeros_B.bool())
        return mix(vary(batch, config, draws_B7, INPUT), coded_B, partners_E, INPUT)

    found, expected = prepare("cuda"), prepare("cpu")
    assert (num > 8) == bool(config.mixed)
    assert found.images_BCHW.device.type == "cuda"
    torch.testing.assert_close(found.images_BCHW.cpu(), expected.images_BCHW, rtol=1e-4, atol=1e-4)
    for one, other in zip([*found.boxes, found.labels_BK], [*expected.boxes, expected.labels_BK], strict=True):
        assert one.device.type == "cpu"
        assert torch.equal(one, other)
