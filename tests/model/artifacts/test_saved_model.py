import hashlib
import json
import pickle

import pytest
import torch

from model.artifacts.model_files import CONFIG_NAME, WEIGHTS_NAME
from model.artifacts.saved_model import describe_model, load_model, save_model
from model.networks.config import ModelConfig
from model.networks.registry import build_network

CONFIG = ModelConfig(backbone="test_resnet", classes=("Gun", "Knife"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(CONFIG)


@pytest.fixture
def folder(network, tmp_path):
    save_model(str(tmp_path / "model"), network, CONFIG, {"epoch": 3})
    return tmp_path / "model"


def edit_config(folder, **changes):
    document = json.loads((folder / CONFIG_NAME).read_text())
    for name, value in changes.items():
        if value is None:
            del document[name]
        else:
            document[name] = value
    (folder / CONFIG_NAME).write_text(json.dumps(document))


def replace_weights(folder, data):
    (folder / WEIGHTS_NAME).write_bytes(data)
    edit_config(folder, weights_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("url", ["local", "memory://models/one"])
def test_a_model_is_loaded_as_it_was_saved(network, tmp_path, url):
    folder = str(tmp_path) if url == "local" else url
    model_id = save_model(folder, network, CONFIG, {"epoch": 3})
    loaded = load_model(folder)
    assert loaded.config == CONFIG
    assert loaded.model_id == model_id
    assert loaded.provenance == {"epoch": 3}
    assert not loaded.network.training
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.network(images).logits_BK, network.eval()(images).logits_BK)


def test_equal_models_have_equal_bytes_whatever_their_memory_layout(network, folder, tmp_path):
    again = tmp_path / "again"
    save_model(str(again), network.to(memory_format=torch.channels_last), CONFIG, {"epoch": 3})
    for name in (WEIGHTS_NAME, CONFIG_NAME):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_the_id_follows_from_network_backbone_weights_and_config(network, folder, tmp_path):
    first = load_model(str(folder)).model_id
    digest = hashlib.sha256((folder / WEIGHTS_NAME).read_bytes() + (folder / CONFIG_NAME).read_bytes()).hexdigest()
    assert first == f"chr-test_resnet-{digest[:12]}"
    assert save_model(str(tmp_path / "b"), network, CONFIG, {"epoch": 4}) != first
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert save_model(str(tmp_path / "c"), network, CONFIG, {"epoch": 3}) != first


def test_a_backbones_tag_makes_a_plain_folder_name(tmp_path):
    config = ModelConfig(backbone="test_resnet.r160_in1k", classes=("Gun",))
    assert save_model(str(tmp_path), build_network(config), config).startswith("chr-test_resnet.r160_in1k-")


def test_a_description_says_what_the_model_is(folder):
    found = describe_model(str(folder))
    assert found["network"] == "chr"
    assert found["classes"] == ["Gun", "Knife"]
    assert found["num_parameters"] == sum(p.numel() for p in load_model(str(folder)).network.parameters())
    assert found["weights_bytes"] == (folder / WEIGHTS_NAME).stat().st_size


@pytest.mark.parametrize("name", [WEIGHTS_NAME, CONFIG_NAME])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"got no {name} \(.*model\); `sixray train` writes one"):
        load_model(str(folder))


def test_weights_that_were_changed_are_refused(folder):
    data = bytearray((folder / WEIGHTS_NAME).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(data)
    with pytest.raises(ValueError, match=r"must have the sha256 [0-9a-f]{64} that config.json records, got"):
        load_model(str(folder))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_in_place_of_the_weights_is_refused(folder, protocol):
    replace_weights(folder, pickle.dumps({"weight": [1.0]}, protocol=protocol))
    with pytest.raises(ValueError, match=r"must be a safetensors file, got a pickle.*pickles are never loaded"):
        load_model(str(folder))


def test_a_torch_checkpoint_in_place_of_the_weights_is_refused(folder, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    replace_weights(folder, (tmp_path / "weights.pt").read_bytes())
    with pytest.raises(ValueError, match=r"must be a safetensors file, got a pickle.*pickles are never loaded"):
        load_model(str(folder))


def test_other_bytes_in_place_of_the_weights_are_refused(folder):
    replace_weights(folder, b"nonsense" * 100)
    with pytest.raises(ValueError, match=r"model\.safetensors must be a safetensors file, got"):
        load_model(str(folder))


def test_weights_of_another_network_are_refused(folder, tmp_path):
    other = ModelConfig(backbone="test_resnet", classes=("Gun", "Knife", "Wrench"))
    save_model(str(tmp_path / "other"), build_network(other), other)
    replace_weights(folder, (tmp_path / "other" / WEIGHTS_NAME).read_bytes())
    with pytest.raises(ValueError, match=r"weights must be those of 'chr' on 'test_resnet', got (?s:.*)size mismatch"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "model must have format 1, got 2 .*load it with the release"),
        ({"surplus": 1}, r"model config must have the keys .*, got also \['surplus'\]"),
        ({"backbone": None}, "backbone"),
        ({"classes": "Gun"}, "classes must be a list of str, got 'Gun'"),
        ({"image_size_px": "224"}, "image_size_px must be one int, got '224'"),
        ({"num_levels": True}, "num_levels must be one int, got True"),
        ({"weights_sha256": None}, "weights_sha256"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_config_that_is_no_json_object_is_refused(folder, text):
    (folder / CONFIG_NAME).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config.json must be a JSON (document|object), got"):
        load_model(str(folder))


def test_a_config_comes_back_from_its_json():
    assert ModelConfig.from_json(json.loads(json.dumps(CONFIG.to_json())), "here") == CONFIG
