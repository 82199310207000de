"""Import checkpoints of the authors' code, compare the logits with theirs, and refuse hostile ones."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from model.artifacts.import_chr import import_checkpoint
from model.artifacts.saved_model import load_model
from model.networks.config import ModelConfig
from model.networks.registry import build_network
from pipelines.cli import main

BLOCKS = {"layer1": (3, 64, 1), "layer2": (4, 128, 2), "layer3": (23, 256, 2), "layer4": (3, 512, 2)}
"""Of ResNet-101: blocks, width and stride."""
HEADS = {"cov4": (2048, 2048), "cov3": (1024, 3072), "cov2": (512, 1536), "cov3_1": (1024, 1024), "cov2_1": (512, 512)}
CLASSIFIERS = {"fc1": 2048, "fc2": 1024, "fc3": 512}


def make_state(num_classes=5, counts=True):
    """Return random weights under the names and in the shapes of the authors' code."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def conv(name, out, into, side=1, bias=False):
        state[f"{name}.weight"] = torch.randn(out, into, side, side, generator=generator) / (into * side**2) ** 0.5
        if bias:
            state[f"{name}.bias"] = torch.randn(out, generator=generator) / 10

    def norm(name, depth):
        state[f"{name}.weight"] = torch.rand(depth, generator=generator) + 0.5
        state[f"{name}.bias"] = torch.randn(depth, generator=generator) / 10
        state[f"{name}.running_mean"] = torch.randn(depth, generator=generator) / 10
        state[f"{name}.running_var"] = torch.rand(depth, generator=generator) + 0.5
        if counts:
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("features.0", 64, 3, 7)
    norm("features.1", 64)
    depth = 64
    for layer, (num_blocks, width, _) in BLOCKS.items():
        for number in range(num_blocks):
            at = f"{layer}.{number}"
            for place, (out, into, side) in enumerate(((width, depth, 1), (width, width, 3), (4 * width, width, 1)), 1):
                conv(f"{at}.conv{place}", out, into, side)
                norm(f"{at}.bn{place}", out)
            if number == 0:
                conv(f"{at}.downsample.0", 4 * width, depth)
                norm(f"{at}.downsample.1", 4 * width)
            depth = 4 * width
    for name, (out, into) in HEADS.items():
        conv(name, out, into, bias=True)
    for name, into in CLASSIFIERS.items():
        state[f"{name}.weight"] = torch.randn(num_classes, into, generator=generator) / into**0.5
        state[f"{name}.bias"] = torch.randn(num_classes, generator=generator)
    return state


def authors_forward(state, images, align_corners):
    """Return o1, o2, o3 (top level first) as `ResNetCHR.forward` computes them, from its state alone."""

    def conv(name, x, stride=1, padding=0):
        return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)

    def norm(name, x):
        parts = (state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts)

    def block(at, x, stride):
        y = norm(f"{at}.bn1", conv(f"{at}.conv1", x)).relu()
        y = norm(f"{at}.bn2", conv(f"{at}.conv2", y, stride, 1)).relu()
        y = norm(f"{at}.bn3", conv(f"{at}.conv3", y))
        if f"{at}.downsample.0.weight" in state:
            x = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", x, stride))
        return (y + x).relu()

    def upsample_add(x, y):
        up = functional.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=align_corners)
        return torch.cat([up, y], 1)

    def classify(name, x, pool):
        pooled = functional.avg_pool2d(x, pool, stride=1).flatten(1)
        return functional.linear(pooled, state[f"{name}.weight"], state[f"{name}.bias"])

    x = norm("features.1", conv("features.0", images, 2, 3)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    levels = {}
    for layer, (num_blocks, _, stride) in BLOCKS.items():
        for number in range(num_blocks):
            x = block(f"{layer}.{number}", x, stride if number == 0 else 1)
        levels[layer] = x
    l2, l3, l4 = (levels[layer] for layer in ("layer2", "layer3", "layer4"))
    o1 = classify("fc1", conv("cov4", l4).relu(), 7)
    l3_5 = conv("cov3", upsample_add(l4, conv("cov3_1", l3).relu())).relu()
    l2_5 = conv("cov2", upsample_add(l3_5, conv("cov2_1", l2).relu())).relu()
    return o1, classify("fc2", l3_5, 14), classify("fc3", l2_5, 28)


@pytest.fixture(scope="module")
def state():
    return make_state()


@pytest.fixture(scope="module")
def hollow(state):
    """Tensors of the same names and shapes whose one value is stored once: 240 MB less to write."""
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}


def save(path, content, **options):
    torch.save(content, path, **options)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "zipped", "prefix", "network"),
    [(True, True, "", "chr_authors"), (False, False, "module.", "chr_authors_corners")],
    ids=["today's PyTorch", "PyTorch 0.3.1, DataParallel"],
)
def test_an_imported_checkpoint_gives_the_authors_logits_at_every_level(
    state, tmp_path, capsys, counts, zipped, prefix, network
):
    kept = {prefix + name: value for name, value in state.items() if counts or "num_batches" not in name}
    content = {"epoch": 15, "arch": None, "state_dict": kept, "best_score": torch.tensor(0.75)}
    path = save(tmp_path / "checkpoint.pth.tar", content, _use_new_zipfile_serialization=zipped)
    assert main(["import-chr", path, "--output", str(tmp_path / "model")]) == 0
    assert "the mean over the three levels, as in the paper; the authors' code rates fc1" in capsys.readouterr().err
    model = load_model(str(tmp_path / "model"))
    assert (model.config.network, model.config.input.size_px) == (network, 224)
    assert model.config.classes == ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
    assert (model.provenance["epoch"], model.provenance["best_score"]) == (15, 0.75)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = model.network(images)
        o1, o2, o3 = authors_forward(state, images, align_corners=not counts)
    assert o1.std() > 0.01
    for found, expected in zip(output.level_logits_LBK, (o3, o2, o1), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [tuple(heatmap.shape[-2:]) for heatmap in output.heatmaps] == [(28, 28), (14, 14), (7, 7)]


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_none_of_its_code_runs(tmp_path, zipped):
    done = tmp_path / "harm done"
    content = {"state_dict": {}, "best_score": Harm(str(done))}
    path = save(tmp_path / "evil.pth", content, _use_new_zipfile_serialization=zipped)
    message = (
        r"checkpoint must hold tensors and plain values alone, got an object of \w+.mkdir \(.*evil.pth\); code in a"
    )
    with pytest.raises(ValueError, match=message) as refused:
        import_checkpoint(path)
    # PyTorch's own message advises to load the file unsafely, in terminal colours.
    assert "weights_only" not in str(refused.value) and "\x1b" not in str(refused.value)
    assert not done.exists()
    torch.load(path, weights_only=False)  # the pickle does run code when loaded unsafely
    assert done.exists()


@pytest.mark.parametrize(
    "value", [np.float64(0.75), np.float32(0.75), np.int64(3), np.bool_(True), np.array(0.75, ">f8")[()]]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_number_of_numpy_is_read(state, tmp_path, value, zipped, monkeypatch):
    monkeypatch.setattr("model.artifacts.import_chr.build_network", lambda config: nn.Identity())
    monkeypatch.setattr("model.artifacts.import_chr._translate", lambda *_: {})
    content = {"state_dict": {}, "best_score": value}
    _, _, provenance = import_checkpoint(save(tmp_path / "c.pth", content, _use_new_zipfile_serialization=zipped))
    assert provenance["best_score"] == value.item()
    assert type(provenance["best_score"]) is type(value.item())


@pytest.mark.parametrize("value", [np.array([0.5]), np.str_("best"), np.array([(1,)], [("a", "i4")])[0]])
def test_other_objects_of_numpy_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match="checkpoint must hold tensors and plain values alone, got"):
        import_checkpoint(save(tmp_path / "c.pth", {"state_dict": {}, "best_score": value}))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 broken", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint must .*c\.pth"):
        import_checkpoint(str(tmp_path / "c.pth"))


def test_a_checkpoint_cut_short_is_refused(tmp_path, state):
    path = tmp_path / "c.pth"
    save(path, {"state_dict": {"fc1.weight": state["fc1.weight"]}})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="checkpoint must hold tensors and plain values alone"):
        import_checkpoint(str(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [1, 2], "checkpoint must be a dict with a state_dict, got list"),
        (lambda s: {"state_dict": [1]}, "state_dict must be tensors by name, got other values"),
        (lambda s: {k: v for k, v in s.items() if k != "cov4.bias"}, r"1 missing \(first: \['cov4.bias'\]\)"),
        (lambda s: s | {"extra": torch.ones(1)}, r"got 1 others \(first: \['extra'\]\) and 0 missing"),
        (lambda s: s | {"cov4.bias": torch.ones(3)}, r"cov4.bias must have the shape of its layer, got \(3,\) rather"),
    ],
)
def test_a_checkpoint_of_another_graph_is_refused(tmp_path, hollow, change, message):
    with pytest.raises(ValueError, match=message):
        import_checkpoint(save(tmp_path / "c.pth", change(hollow)))


@pytest.mark.slow
def test_other_classes_must_be_named(tmp_path, hollow):
    heads = {name: value[:2] for name, value in hollow.items() if name.startswith("fc")}
    path = save(tmp_path / "c.pth", hollow | heads)
    with pytest.raises(ValueError, match=r"fc\d.* must have the shape .*name as many --classes as it has"):
        import_checkpoint(path)
    _, config, _ = import_checkpoint(path, ("Straight", "Folding"))
    assert config.classes == ("Straight", "Folding")


def test_the_authors_graph_has_three_levels():
    config = ModelConfig(network="chr_authors", backbone="resnet18", classes=("Gun",))
    assert build_network(config)(torch.rand(1, 3, 64, 64)).level_logits_LBK.shape == (3, 1, 1)
    with pytest.raises(ValueError, match="num_levels must be 3 for the network 'chr_authors', got 2"):
        build_network(replace(config, num_levels=2))
