"""Detect the device, number format and cores of this machine."""

import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from shards.host import count_cores

_BF16_FLAGS = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The hardware that a run uses; recorded with every run."""

    device: str
    """`cuda` or `cpu`."""
    dtype: str
    """`bfloat16` if the device has units for it, else `float32`: without them bf16 was measured six times slower.
    float32 is that of IEEE 754 on a GPU too, never TF32."""
    decode_device: str
    """DALI's `mixed` (nvJPEG) with a GPU, else `cpu`."""
    num_cores: int
    """Cores that this process may use, within a container's quota."""
    name: str
    """Of the GPU or the processor."""
    num_devices: int = 1
    """GPUs (on a CPU: processes) that train together; scoring uses one."""

    def __post_init__(self) -> None:
        if self.num_devices < 1:
            raise ValueError(f"num_devices must be >= 1, got {self.num_devices}")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of activations under autocast; weights and logits stay float32."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that runs record."""
        return asdict(self)


def detect_hardware() -> Hardware:
    """Return the best device of this machine and what it supports."""
    if torch.cuda.is_available():
        return Hardware(
            device="cuda",
            dtype="bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32",
            decode_device="mixed",
            num_cores=count_cores(),
            name=torch.cuda.get_device_name(),
            num_devices=torch.cuda.device_count(),
        )
    return detect_processor()


def detect_processor() -> Hardware:
    """Return this machine's processor and what it supports."""
    return Hardware(
        device="cpu",
        dtype="bfloat16" if has_bf16_units(cpu_info()) else "float32",
        decode_device="cpu",
        num_cores=count_cores(),
        name=_field(cpu_info(), "model name") or platform.machine(),
    )


def has_bf16_units(cpuinfo: str) -> bool:
    """Say whether the text of /proc/cpuinfo lists instructions that multiply bf16."""
    return not set(_BF16_FLAGS).isdisjoint(_field(cpuinfo, "flags").split())


@cache
def cpu_info() -> str:
    """Return /proc/cpuinfo, empty if there is none."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _field(cpuinfo: str, name: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
