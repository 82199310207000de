"""A moving average of the weights is rated and saved; tests/model/training/test_module.py stops and resumes it."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback

from model.artifacts.saved_model import load_model
from model.training.trainer import train
from tests.model.scans import make_dataset
from tests.model.training.test_trainer import FLOAT32, TINY

DECAY = 0.5


def test_the_model_is_the_average_of_weights_and_statistics_over_steps_and_is_what_is_rated(tmp_path):
    states, rated = [], []

    class Watch(Callback):
        def on_fit_start(self, trainer, pl_module):
            for name, network in (("network", pl_module.network), ("average", pl_module.average.module)):
                network.register_forward_hook(lambda module, *_, name=name: rated.append((name, module.training)))

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            states.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})

    dataset = make_dataset(tmp_path / "dataset", num_train=16)
    config = replace(TINY, max_epochs=1, ema_decay=DECAY)
    found = train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32, callbacks=[Watch()]).model_url
    assert set(rated) == {("network", True), ("average", False)}
    expected = states[0]
    for num_before, state in enumerate(states[1:], start=1):
        # the warm-up of K. Crowson that timm documents: 1 - (1 + n) ** (-2/3)
        decay = min(DECAY, 1 - (1 + num_before) ** (-2 / 3))
        expected = {
            name: torch.lerp(state[name], value, decay) if value.is_floating_point() else state[name]
            for name, value in expected.items()
        }
    assert len(states) > 2
    model = load_model(found).network.state_dict()
    assert any(name.endswith("running_var") for name in model)
    for name, value in model.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model["classifiers.0.score.weight"], states[-1]["classifiers.0.score.weight"])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_averages_nothing_or_for_ever_is_refused(decay):
    with pytest.raises(ValueError, match=rf"ema_decay must be in \[0, 1\), got {decay}"):
        replace(TINY, ema_decay=decay)
