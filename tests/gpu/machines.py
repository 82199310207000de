"""The two devices that the tests compare, and the marks of a test that needs the second."""

from dataclasses import replace

import pytest
import torch

from model.hardware import Hardware, detect_hardware

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: make test-gpu"),
]
GPU: Hardware = replace(detect_hardware(), num_devices=1)
"""Of this machine; one without a GPU never uses it."""
CPU: Hardware = replace(GPU, device="cpu", dtype="float32", decode_device="cpu", num_cores=2)
EXACT_FLOAT32 = {"enabled": True, "allow_tf32": False}
"""Of `torch.backends.cudnn.flags`: convolutions in IEEE float32, as a processor computes them."""
