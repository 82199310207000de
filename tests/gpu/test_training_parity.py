"""CPU and GPU must agree: all that a network says, and one step of training."""

import copy
from dataclasses import replace

import pytest
import torch

from model.inputs.batch import Batch, Boxes
from model.networks.config import FUSIONS, AttentionConfig, ModelConfig
from model.networks.registry import NETWORKS, build_network
from model.recipes.general import demo
from model.training.loss_base import sum_terms
from model.training.losses import AuthorsLossConfig, LossConfig
from model.training.sxmnet_losses import AttentionLossConfig, FusedLossConfig, IntuitiveLabels, MetaLossConfig
from model.training.trainer import train
from tests.gpu.machines import EXACT_FLOAT32, GPU
from tests.model.scans import make_dataset

WITHOUT_FUSION = ("plain", "chr_authors", "chr_authors_corners")
SYSTEMS = [
    (name, fusion) for name in NETWORKS for fusion in FUSIONS if fusion == "average" or name not in WITHOUT_FUSION
]
LOSSES = {
    "average": LossConfig(),
    "top": AuthorsLossConfig(),
    "gated": FusedLossConfig(),
    "meta": MetaLossConfig(labels=IntuitiveLabels()),
}
STEPS = [*((*system, LOSSES[system[1]]) for system in SYSTEMS), ("sxmnet", "average", AttentionLossConfig())]


def build(name, fusion):
    torch.manual_seed(0)
    config = ModelConfig(
        network=name,
        backbone="resnet18",
        classes=("Gun", "Knife"),
        num_levels=1 if name == "plain" else 3,
        fusion=fusion,
        attention=AttentionConfig() if name == "sxmnet" else None,
    )
    return build_network(config)


@pytest.mark.parametrize(("name", "fusion"), SYSTEMS)
def test_all_that_a_network_says_agrees_within_a_stated_tolerance(name, fusion):
    network = build(name, fusion).eval()
    images = torch.rand(4, 3, 224, 224)
    with torch.inference_mode(), torch.backends.cudnn.flags(**EXACT_FLOAT32):
        on_cpu = dict(network(images).named_tensors())
        on_gpu = dict(network.cuda()(images.cuda()).named_tensors())
    assert on_cpu.keys() == on_gpu.keys()
    for part, expected in on_cpu.items():
        found = on_gpu[part].cpu()
        torch.testing.assert_close({part: found}, {part: expected}, rtol=1e-3, atol=1e-4)  # a mapping is told apart


@pytest.mark.parametrize(("name", "fusion", "loss"), STEPS)
def test_one_step_of_training_moves_the_weights_alike_within_a_stated_tolerance(name, fusion, loss):
    network = build(name, fusion)
    start = weights_of(network)
    on_cpu = step(copy.deepcopy(network), loss, "cpu")
    with torch.backends.cudnn.flags(**EXACT_FLOAT32):
        on_gpu = step(network, loss, "cuda")
    moved = (on_cpu - start).norm()
    assert moved > 0
    # Sums in another order, and units of a ReLU that they lift over zero on one side alone: of the pyramid's few on a
    # map of 3 cells one makes up to 0.8 %, seen on a CPU with another memory layout.
    assert (on_gpu - on_cpu).norm() < 0.03 * moved


def step(network, loss, device):
    """Return the weights after one step of SGD on eight scans, as one vector on the CPU."""
    network = network.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(8, 2, generator=random) / 2
    boxes = Boxes(
        torch.cat([corners, corners + 0.3], dim=1), torch.linspace(0.01, 0.3, 8), torch.arange(8), torch.arange(8) % 2
    )
    batch = Batch(
        torch.rand(8, 3, 96, 96, generator=random).to(device),
        (torch.rand(8, 2, generator=random) < 0.5).float().to(device),
        torch.arange(8),
        Boxes(*(tensor.to(device) for tensor in boxes)),
        torch.zeros(8, dtype=torch.int64, device=device),
        torch.zeros(8, dtype=torch.bool, device=device),
    )
    sum_terms(loss.terms(network(batch.images_BCHW), batch)).backward()
    optimizer.step()
    return weights_of(network)


def weights_of(network):
    return torch.cat([parameter.detach().cpu().flatten() for parameter in network.parameters()])


def test_a_run_on_the_gpu_ends_with_a_model(tmp_path):
    dataset = make_dataset(tmp_path / "data", num_train=64)
    config = replace(demo(), image_size_px=64, resize_px=72, max_epochs=2, validation_fraction=0.2)
    result = train(dataset, str(tmp_path / "run"), config, hardware=GPU)
    assert result.model.provenance["epoch"] in (1, 2)
