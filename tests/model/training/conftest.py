"""Fixtures for training tests."""

import pytest


@pytest.fixture
def forked_devices(monkeypatch):
    """Fork the processes of several devices, which saves their imports of some eight seconds each.

    The default start method, which pickles the module, is tested through `sixray train --devices 2`.
    """
    monkeypatch.setattr("model.training.trainer.DEVICES_STRATEGY", "ddp_fork")
