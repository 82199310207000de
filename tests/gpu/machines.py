"""The two devices that the tests compare; a module that imports them is skipped where there is no second one."""

from dataclasses import replace

import pytest
import torch

from model.hardware import Hardware, detect_hardware

if not torch.cuda.is_available():
    # Here, so that nothing is prepared for tests that are not run.
    pytest.skip("needs a CUDA device: make test-gpu", allow_module_level=True)
GPU: Hardware = replace(detect_hardware(), num_devices=1)
CPU: Hardware = replace(GPU, device="cpu", dtype="float32", decode_device="cpu", num_cores=2)
EXACT_FLOAT32 = {"enabled": True, "allow_tf32": False}
"""Of `torch.backends.cudnn.flags`: convolutions in IEEE float32, as a processor computes them."""
