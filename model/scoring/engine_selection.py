"""Which ways to compute a network are open here, and which was asked for? Told without PyTorch, so that a run can plan.

An engine is a way to compute the forward pass: `eager` (PyTorch, channels_last, batch norms folded), `compiled` (the
same through torch.compile) and `onnxruntime` (the exported model). Which is fastest depends on the processor: bf16
eager was measured at 1.9 times float32 where there are units for it, and at a sixth of it where there are none; ONNX
Runtime at 1.5 times eager float32 on AVX2 alone, and at the same where AVX-512 is. So it is tried, not assumed.
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
COMPILED_FROM_SCANS = 100_000
"""Compiling takes 10 to 30 seconds and gained 5 to 20 %: below this many scans it is not even tried."""
EXPORTED_FROM_SCANS = 1_000
"""Export and trial take 4 seconds, for a gain of 10 to 50 %: below this many scans it is not tried either."""
_FROM_SCANS = {"eager": 0, "compiled": COMPILED_FROM_SCANS, "onnxruntime": EXPORTED_FROM_SCANS}
_EXPORT_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """An engine and the number format of its activations; logits are float32 always."""

    engine: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.engine} {self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWish:
    """What was asked for, and what is known before the model is loaded."""

    engine: str | None = None
    """One of `ENGINES`, whatever its speed; None: the fastest."""
    dtype: str | None = None
    """One of `DTYPES`; None: the fastest."""
    earlier: tuple[Engine, ...] = ()
    """What made the parts that are there already, most of them first: it goes on where this machine has it, so that
    the parts of a folder agree and one that went missing comes back as it was."""
    num_earlier_scans: int = 0
    """In the earlier parts: few of them were made without a trial of what pays for many."""
    num_scans: int = 0
    """To be scored: whether a costly preparation pays."""

    def __post_init__(self) -> None:
        for name, value, known in (("engine", self.engine, ENGINES), ("dtype", self.dtype, DTYPES)):
            if value is not None and value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if (self.engine, self.dtype) == ("onnxruntime", "bfloat16"):
            raise ValueError("dtype must be float32 for the engine onnxruntime, got 'bfloat16'")

    def allows(self, way: Way) -> bool:
        """Say whether a way is what was asked for."""
        return self.engine in (None, way.engine) and self.dtype in (None, way.dtype)


def list_ways(wish: EngineWish, hardware: "Hardware") -> list[Way]:
    """Return the ways worth a trial, the plainest first; one alone where the wish or the machine leaves no choice.

    Raises:
        ValueError: the engine that was asked for cannot run here.
    """
    _check_possible(wish, hardware)
    every = [
        Way(engine, dtype) for engine in ENGINES for dtype in DTYPES if (engine, dtype) != ("onnxruntime", "bfloat16")
    ]
    return [way for way in every if wish.allows(way) and _is_sensible(way, wish, hardware)]


def earlier_way(wish: EngineWish, hardware: "Hardware", decoder: str) -> Way | None:
    """Return the way of the earlier parts, if this machine has it and it is what was asked for.

    None where they are few and many scans are to come: the first thousand do not bind a million.
    """
    if wish.num_earlier_scans < EXPORTED_FROM_SCANS <= wish.num_scans:
        return None
    for engine in wish.earlier:
        way = Way(engine.engine, engine.dtype)
        same_machine = (engine.device, engine.decoder) == (hardware.device, decoder)
        has_units = wish.dtype is not None or _has_units(way, hardware) or hardware.device == "cuda"
        if same_machine and wish.allows(way) and has_units and _can_run(way.engine, hardware):
            return way
    return None


def _check_possible(wish: EngineWish, hardware: "Hardware") -> None:
    if wish.engine is None or _can_run(wish.engine, hardware):
        return
    if wish.engine == "compiled":
        raise ValueError("engine compiled must have a C++ compiler (g++ or clang++), got none in the PATH; install one")
    if hardware.device != "cpu":
        raise ValueError(f"engine must be eager or compiled on {hardware.device!r}, got 'onnxruntime'")
    raise ValueError(
        f"engine onnxruntime must have {', '.join(_EXPORT_PACKAGES)} installed, "
        f"got no {', '.join(_absent_packages())}; "
        f"install them with: pip install 'sixray-pipeline[export]'"
    )


def _is_sensible(way: Way, wish: EngineWish, hardware: "Hardware") -> bool:
    if not _can_run(way.engine, hardware):
        return False
    if wish.engine is None and wish.num_scans < _FROM_SCANS[way.engine]:
        return False
    if wish.engine is None and way.engine == "compiled" and hardware.device != "cpu":
        return False
    return wish.dtype is not None or _has_units(way, hardware)


def _has_units(way: Way, hardware: "Hardware") -> bool:
    # Hardware.dtype says whether there are units for bf16. A GPU that has them is faster with them, without a trial.
    if way.dtype == "bfloat16":
        return hardware.dtype == "bfloat16"
    return hardware.device == "cpu" or hardware.dtype == "float32"


def _can_run(engine: str, hardware: "Hardware") -> bool:
    if engine == "onnxruntime":
        return hardware.device == "cpu" and not _absent_packages()
    if engine == "compiled":  # on a CPU torch.compile writes C++
        return hardware.device != "cpu" or any(shutil.which(name) for name in ("g++", "c++", "clang++"))
    return True


def _absent_packages() -> Sequence[str]:
    return [name for name in _EXPORT_PACKAGES if importlib.util.find_spec(name) is None]
