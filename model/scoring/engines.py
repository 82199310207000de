"""Build the inference engine of a network, after a short trial if necessary.

Shapes: B batch  K classes  L levels  C colour  H W pixels
"""

import functools
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from model.artifacts.onnx_network import OnnxNetwork
from model.hardware import Hardware
from model.networks.bf16 import with_bf16_weights
from model.networks.config import ModelConfig
from model.networks.output import NetworkOutput
from model.scoring.batchnorm_folding import fold_batch_norms
from model.scoring.engine_selection import (
    EngineRequest,
    EngineSpec,
    check_quantized,
    earlier_spec,
    list_engine_specs,
)

Compute = Callable[[Tensor], NetworkOutput]
"""Normalised images (B, 3, H, W) on the device -> the network's output, float32."""

Name = TypeVar("Name")

PART_IMAGES = 8
"""A processor computes a batch in parts of this many: the activations of more do not fit into its caches."""
MARGIN = 1.05
"""bf16 must be this many times faster to be chosen in place of float32."""
_TRIAL_ROUNDS = 3
_TRIAL_SECONDS = 3.0
"""No further round begins after this time."""

_logger = logging.getLogger(__name__)
_chosen: dict[tuple[ModelConfig, Hardware, EngineSpec], EngineSpec] = {}
"""Earlier choices of this process, by what they depend on."""


class BuiltEngine(NamedTuple):
    """A network and the function that computes it."""

    spec: EngineSpec
    compute: Compute


def choose_engine(network: nn.Module, config: ModelConfig, hardware: Hardware, request: EngineRequest) -> BuiltEngine:
    """Return the requested engine, else that of the existing parts, else the fastest.

    A quantized network has one engine. An ONNX export that fails is replaced by PyTorch, unless it was requested.

    Args:
        network: float32, on the CPU, in eval mode; not changed.
        config: of the network.
        hardware: device and cores.
        request: what the user asked for, and what the run's plan knows.

    Raises:
        ValueError: the requested engine cannot run here.
    """
    if isinstance(network, OnnxNetwork):
        check_quantized(request, hardware)
        return BuiltEngine(EngineSpec("onnxruntime", "int8"), _in_parts(network))
    build = functools.cache(
        partial(_build, folded=fold_batch_norms(network, config.input.size_px), config=config, hardware=hardware)
    )
    spec = earlier_spec(request, hardware, f"dali-{hardware.decode_device}")
    if spec is None:
        spec, *others = list_engine_specs(request, hardware)
        if others:
            spec = _choose(build, spec, others[0], config, hardware)
    return BuiltEngine(spec, build(spec))


def _choose(
    build: Callable[[EngineSpec], Compute],
    exported: EngineSpec,
    plain: EngineSpec,
    config: ModelConfig,
    hardware: Hardware,
) -> EngineSpec:
    key = (config, hardware, plain)
    if key in _chosen:
        return _chosen[key]
    try:
        build(exported)
    except Exception as error:  # a broken installation may raise anything, and PyTorch can do the work
        _logger.warning("engine %s cannot be used, %s takes its place: %s", exported, plain, error or repr(error))
        _chosen[key] = plain
    else:
        is_open = plain.dtype != exported.dtype
        _chosen[key] = _try(build, exported, plain, config.input.size_px) if is_open else exported
    return _chosen[key]


def _try(build: Callable[[EngineSpec], Compute], exported: EngineSpec, plain: EngineSpec, size_px: int) -> EngineSpec:
    rates = measure_engines({spec: build(spec) for spec in (exported, plain)}, size_px)
    chosen = plain if rates[plain] >= MARGIN * rates[exported] else exported
    measured = ", ".join(f"{spec} {rate:.1f}" for spec, rate in rates.items())
    _logger.info("engine %s: scans a second in a trial: %s", chosen, measured)
    return chosen


def measure_engines(engines: Mapping[Name, Compute], size_px: int) -> dict[Name, float]:
    """Return images a second of each engine on a CPU: the best of a few rounds, run in turn."""
    images_BCHW = torch.randn(PART_IMAGES // 2, 3, size_px, size_px)  # ranks engines as a whole part does
    best_seconds = dict.fromkeys(engines, float("inf"))
    for compute in engines.values():
        compute(images_BCHW)  # the first call prepares weights and buffers
    began = time.perf_counter()
    for round_number in range(_TRIAL_ROUNDS):
        if round_number and time.perf_counter() - began > _TRIAL_SECONDS:
            break
        for spec, compute in engines.items():
            started = time.perf_counter()
            compute(images_BCHW)
            best_seconds[spec] = min(best_seconds[spec], time.perf_counter() - started)
    return {spec: len(images_BCHW) / seconds for spec, seconds in best_seconds.items()}


def build_engine(spec: EngineSpec, network: nn.Module, config: ModelConfig, hardware: Hardware) -> Compute:
    """Return the function that computes a network with an engine; it is thread-safe.

    Args:
        spec: engine and dtype.
        network: float32, on the CPU, in eval mode; not changed.
        config: of the network.
        hardware: device and cores.

    Raises:
        ValueError: the engine cannot run here.
    """
    return _build(spec, fold_batch_norms(network, config.input.size_px), config, hardware)


def _build(spec: EngineSpec, folded: nn.Module, config: ModelConfig, hardware: Hardware) -> Compute:
    compute: Compute
    if spec.engine == "onnxruntime":
        compute = _build_onnxruntime(folded, config, hardware)
    else:
        folded.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if hardware.device == "cuda" and spec.dtype == "bfloat16":
            folded = with_bf16_weights(folded)
        compute = (_Compiled if spec.engine == "compiled" else _Eager)(folded, spec, hardware)
    return _in_parts(compute) if hardware.device == "cpu" else compute


def _in_parts(compute: Compute) -> Compute:
    def compute_parts(images_BCHW: Tensor) -> NetworkOutput:
        parts = [dict(compute(part_bCHW).named_tensors()) for part_bCHW in torch.split(images_BCHW, PART_IMAGES)]
        return NetworkOutput.from_named({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    return compute_parts


class _Eager:
    def __init__(self, network: nn.Module, spec: EngineSpec, hardware: Hardware) -> None:
        self._network: Callable[[Tensor], NetworkOutput] = network
        self._device = hardware.device
        is_half = spec.dtype == "bfloat16"
        self._uses_autocast = is_half and self._device == "cpu"  # on a GPU the weights are bf16
        self._dtype = torch.bfloat16 if is_half and not self._uses_autocast else torch.float32

    def __call__(self, images_BCHW: Tensor) -> NetworkOutput:
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._uses_autocast):
            return self._network(images_BCHW.to(self._dtype))


class _Compiled(_Eager):
    """Compiled for one batch size: a smaller batch is padded, because compiling for another takes as long again."""

    def __init__(self, network: nn.Module, spec: EngineSpec, hardware: Hardware) -> None:
        super().__init__(network, spec, hardware)
        self._network = torch.compile(network, dynamic=False)
        self._batch_size = 0

    def __call__(self, images_BCHW: Tensor) -> NetworkOutput:
        import torch._inductor.config as inductor  # the import takes seconds

        num = len(images_BCHW)
        self._batch_size = max(self._batch_size, num)
        if num < self._batch_size:
            missing_BCHW = images_BCHW.new_zeros(self._batch_size - num, *images_BCHW.shape[1:])
            images_BCHW = torch.cat([images_BCHW, missing_BCHW])
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)  # another layout would compile again
        # Freezing lays the weights out as the processor's kernels read them.
        with inductor.patch(freezing=self._device == "cpu"):
            output = super().__call__(images_BCHW)
        return NetworkOutput.from_named({name: tensor[:num] for name, tensor in output.named_tensors()})


def _build_onnxruntime(folded: nn.Module, config: ModelConfig, hardware: Hardware) -> Compute:
    from model.artifacts.export import check_export, export_onnx, trace_onnx

    try:
        file = trace_onnx(folded, config)
    except ValueError as error:
        _logger.info("%s: exported in full, which takes longer", error)
        file = export_onnx(folded, config)
    network = OnnxNetwork(file, config, hardware.num_cores)
    check_export(folded, config, network.run, batch_sizes=(1,))  # not the batch size of the trace
    return network
