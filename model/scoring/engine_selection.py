"""Select the inference engine for this machine; imports no PyTorch, so that a run can be planned without it.

Engines: `eager` (PyTorch, channels_last, batch norms folded), `compiled` (the same through torch.compile) and
`onnxruntime` (the exported model, CPU only; quantized models always). Images a second of 2 cores at 224 px:

                         AVX2               AVX-512, bf16 units     AMX
                         lite0  ResNet-34   lite0  ResNet-34        ResNet-34
    eager float32        42     16          6.7    10.0             26
    eager bfloat16              2.5         12.3   16.1             52
    compiled float32            19                                  29
    onnxruntime float32  111    20-24       48.5   17.3

So bf16 is for processors with units for it, ONNX Runtime beats eager float32 everywhere, and compiled code wins nowhere
and is used on request only. Between bf16 and ONNX Runtime the order depends on network and processor (ONNX Runtime up
to 4 times faster without AMX, bf16 twice eager float32 with it), so a short trial decides between these two.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shards.predictions.parts import Engine

if TYPE_CHECKING:
    from model.hardware import Hardware

ENGINES = ("eager", "compiled", "onnxruntime")
DTYPES = ("float32", "bfloat16")
EXPORTED_FROM_SCANS = 1_000
"""Below this many scans the export, 3 seconds and more, does not pay."""
_COMPILERS = {"cpu": ("g++", "c++", "clang++"), "cuda": ("gcc", "clang")}
"""On a CPU torch.compile writes C++, on a GPU Triton writes the call of each kernel in C."""
_EXPORT_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, slots=True, order=True)
class EngineSpec:
    """An engine and the dtype of its activations; logits are always float32."""

    engine: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.engine} {self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What the user asked for, and what the plan of the run says."""

    engine: str | None = None
    """One of `ENGINES`; None: the fastest."""
    dtype: str | None = None
    """One of `DTYPES`; None: the fastest."""
    earlier: tuple[Engine, ...] = ()
    """Engines of the existing parts, the most frequent first: a resumed run keeps theirs where this machine has it, so
    that the parts of a folder agree and a part that is made again is the same."""
    num_earlier_scans: int = 0
    """Scans in the existing parts."""
    num_scans: int = 0
    """Scans to score."""

    def __post_init__(self) -> None:
        for name, value, known in (("engine", self.engine, ENGINES), ("dtype", self.dtype, DTYPES)):
            if value is not None and value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if (self.engine, self.dtype) == ("onnxruntime", "bfloat16"):
            raise ValueError("dtype must be float32 for the engine onnxruntime, got 'bfloat16'")

    def allows(self, spec: EngineSpec) -> bool:
        """Say whether an engine satisfies the request."""
        return self.engine in (None, spec.engine) and self.dtype in (None, spec.dtype)


def list_engine_specs(request: EngineRequest, hardware: "Hardware") -> list[EngineSpec]:
    """Return the engines to choose from, one or two; of two the first is `onnxruntime`.

    Raises:
        ValueError: the requested engine cannot run here.
    """
    _check_available(request, hardware)
    plain = EngineSpec(request.engine or "eager", request.dtype or hardware.dtype)
    exported = EngineSpec("onnxruntime", "float32")
    if request.engine == "onnxruntime":
        return [exported]
    pays = request.num_scans >= EXPORTED_FROM_SCANS and _is_available("onnxruntime", hardware)
    return [exported, plain] if pays and request.allows(exported) else [plain]


def check_quantized(request: EngineRequest, hardware: "Hardware") -> None:
    """Raise ValueError if a quantized model cannot be scored as requested: int8 in ONNX Runtime, on a processor."""
    if hardware.device != "cpu":
        raise ValueError(
            f"device must be cpu for a quantized model, got {hardware.device!r}; score the model that it was made of, "
            f"which `sixray info` names, or hide the GPU (CUDA_VISIBLE_DEVICES=)"
        )
    if request.engine not in (None, "onnxruntime") or request.dtype is not None:
        raise ValueError(
            f"a quantized model must be scored by onnxruntime in int8, got engine {request.engine!r} and dtype "
            f"{request.dtype!r}; leave --engine and --dtype out"
        )


def earlier_spec(request: EngineRequest, hardware: "Hardware", decoder: str) -> EngineSpec | None:
    """Return the engine of the existing parts, if this machine has it and the request allows it.

    None if the parts hold few scans and many are to come: the first thousand do not bind a million.
    """
    if request.num_earlier_scans < EXPORTED_FROM_SCANS <= request.num_scans:
        return None
    for engine in request.earlier:
        spec = EngineSpec(engine.engine, engine.dtype)
        same_machine = (engine.device, engine.decoder) == (hardware.device, decoder)
        is_fast = spec.dtype in ("float32", hardware.dtype, request.dtype)  # bf16 without units for it is not
        if same_machine and request.allows(spec) and is_fast and _is_available(spec.engine, hardware):
            return spec
    return None


def _check_available(request: EngineRequest, hardware: "Hardware") -> None:
    if request.engine is None or _is_available(request.engine, hardware):
        return
    if request.engine == "compiled":
        names = " or ".join(_COMPILERS[hardware.device])
        raise ValueError(f"engine compiled must have a compiler ({names}), got none in the PATH; install one")
    if hardware.device != "cpu":
        raise ValueError(f"engine must be eager or compiled on {hardware.device!r}, got 'onnxruntime'")
    raise ValueError(
        f"engine onnxruntime must have {', '.join(_EXPORT_PACKAGES)} installed, "
        f"got no {', '.join(_missing_packages())}; "
        f"install them with: pip install 'sixray-pipeline[export]'"
    )


def _is_available(engine: str, hardware: "Hardware") -> bool:
    if engine == "onnxruntime":
        return hardware.device == "cpu" and not _missing_packages()
    if engine == "compiled":
        return any(shutil.which(name) for name in _COMPILERS[hardware.device])
    return True


def _missing_packages() -> Sequence[str]:
    return [name for name in _EXPORT_PACKAGES if importlib.util.find_spec(name) is None]
