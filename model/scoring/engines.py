"""What computes this network fastest on this machine? The engines, and a short trial between them.

Shapes: B batch  K classes  L levels  C colour  H W pixels
"""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.hardware import Hardware
from model.networks.config import ModelConfig
from model.networks.output import NetworkOutput
from model.scoring.batchnorm_folding import fold_batch_norms
from model.scoring.engine_selection import EngineWish, Way, earlier_way, list_ways

Compute = Callable[[Tensor], NetworkOutput]
"""Normalised images (B, 3, H, W) on the device -> what the network says of them, float32."""

MARGIN = 1.05
"""Another way must be this many times faster than the plainest to be taken: noise must not choose."""
PART_IMAGES = 8
"""A processor computes a batch in parts of this many: the activations of more do not fit into its caches."""
_TRIAL_ROUNDS = 3
_TRIAL_SECONDS = 3.0
"""After this long no further round begins: a large network on a slow processor is not tried for minutes."""
_ONNX_AT_MOST = 1.5
"""ONNX Runtime was never measured faster than this many times eager float32: beside bf16 that is, no export is made."""

_logger = logging.getLogger(__name__)
_tried: dict[tuple[ModelConfig, Hardware, tuple[Way, ...]], Way] = {}


class BuiltEngine(NamedTuple):
    """A network ready to be computed one way."""

    way: Way
    compute: Compute


def choose_engine(network: nn.Module, config: ModelConfig, hardware: Hardware, wish: EngineWish) -> BuiltEngine:
    """Return what computes a network here: what was asked for, else what made the earlier parts, else the fastest.

    The trial runs a few images of noise through each way, some seconds in all, once a process and kind of network.

    Args:
        network: float32, on the CPU, in eval mode; it is left as it is.
        config: of the network.
        hardware: device and cores.
        wish: what was asked for, and what is known.

    Raises:
        ValueError: what was asked for cannot run here.
    """
    folded = fold_batch_norms(network, config.image_size_px)  # once for all ways
    build = functools.cache(partial(_build, folded=folded, config=config, hardware=hardware))
    ways = list_ways(wish, hardware)
    way = earlier_way(wish, hardware, f"dali-{hardware.decode_device}")
    if way is None and len(ways) == 1:
        way = ways[0]
    if way is None:
        place = (config, hardware, tuple(ways))
        if place not in _tried:
            rates = measure_ways(build, config, hardware, ways)
            _tried[place] = pick(rates) if rates else ways[0]
            told = ", ".join(f"{tried} {rate:.1f}" for tried, rate in rates.items())
            _logger.info("engine %s: scans a second in a trial: %s", _tried[place], told)
        way = _tried[place]
    return BuiltEngine(way, build(way))


def measure_ways(
    build: Callable[[Way], Compute], config: ModelConfig, hardware: Hardware, ways: Sequence[Way]
) -> dict[Way, float]:
    """Return images a second of each way, the best of a few rounds, each beside the fastest before it in turn.

    A way that cannot win any more is left out: ONNX Runtime beside much faster bf16, compiled code for the slower
    dtype. So is one that cannot be built or run. Where nothing is left to compare, there are no rates.

    Args:
        build: what computes a network one way, as `build_engine` does it; asked for the same way more than once.
        config: of the network.
        hardware: device and cores.
        ways: the plainest first.
    """
    size = config.image_size_px
    # Half a part ranks the ways as a whole one does; code is compiled for the whole ones that will come.
    num_images = PART_IMAGES if any(way.engine == "compiled" for way in ways) else PART_IMAGES // 2
    images_BCHW = torch.randn(num_images, 3, size, size, device=hardware.device)
    plainest, *others = ways
    rates: dict[Way, float] = {}
    for way in others:
        if _cannot_win(way, rates):
            continue
        rival = max(rates, key=lambda known: rates[known], default=plainest)
        try:  # a compiler or a runtime that is broken here may raise anything, and keeps no one from the plainest
            found = _time_in_turn({rival: build(rival), way: build(way)}, images_BCHW)
        except Exception as error:
            _logger.warning("engine %s is left out of the trial: %s", way, error or repr(error))
            continue
        rates |= {each: max(rate, rates.get(each, 0.0)) for each, rate in found.items()}
    return rates


def pick(rates: Mapping[Way, float]) -> Way:
    """Return the fastest way, or the first where that is faster by less than `MARGIN`."""
    plainest = next(iter(rates))
    fastest = max(rates, key=lambda way: rates[way])
    return fastest if rates[fastest] >= MARGIN * rates[plainest] else plainest


def _cannot_win(way: Way, rates: Mapping[Way, float]) -> bool:
    if not rates:
        return False
    fastest = max(rates.values())
    if way.engine == "onnxruntime":
        plain = next(iter(rates.values()))
        return fastest > _ONNX_AT_MOST * plain
    return way.engine == "compiled" and rates.get(Way("eager", way.dtype), fastest) < fastest


def build_engine(way: Way, network: nn.Module, config: ModelConfig, hardware: Hardware) -> Compute:
    """Return a function that computes a network one way; threads may call it at once.

    Args:
        way: engine and dtype.
        network: float32, on the CPU, in eval mode; it is left as it is.
        config: of the network.
        hardware: device and cores.

    Raises:
        ValueError: the way cannot run here.
    """
    return _build(way, fold_batch_norms(network, config.image_size_px), config, hardware)


def _build(way: Way, folded: nn.Module, config: ModelConfig, hardware: Hardware) -> Compute:
    compute: Compute
    if way.engine == "onnxruntime":
        compute = _build_onnxruntime(folded, config, hardware)
    else:
        folded.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        compute = (_Compiled if way.engine == "compiled" else _Eager)(folded, way, hardware)
    return _in_parts(compute) if hardware.device == "cpu" else compute


def _in_parts(compute: Compute) -> Compute:
    def compute_parts(images_BCHW: Tensor) -> NetworkOutput:
        parts = [dict(compute(part_bCHW).named_tensors()) for part_bCHW in torch.split(images_BCHW, PART_IMAGES)]
        return NetworkOutput.from_named({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    return compute_parts


def _time_in_turn(engines: Mapping[Way, Compute], images_BCHW: Tensor) -> dict[Way, float]:
    best_seconds = dict.fromkeys(engines, float("inf"))
    for compute in engines.values():
        compute(images_BCHW)  # the first call prepares weights and buffers
    began = time.perf_counter()
    for round_number in range(_TRIAL_ROUNDS):
        if round_number and time.perf_counter() - began > _TRIAL_SECONDS:
            break
        for way, compute in engines.items():
            started = time.perf_counter()
            compute(images_BCHW).logits_BK.cpu()  # brought to the CPU: a GPU is waited for
            best_seconds[way] = min(best_seconds[way], time.perf_counter() - started)
    return {way: len(images_BCHW) / seconds for way, seconds in best_seconds.items()}


class _Eager:
    def __init__(self, network: nn.Module, way: Way, hardware: Hardware) -> None:
        self._network: Callable[[Tensor], NetworkOutput] = network
        self._device = hardware.device
        self._is_half = way.dtype == "bfloat16"

    def __call__(self, images_BCHW: Tensor) -> NetworkOutput:
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._is_half):
            return self._network(images_BCHW)


class _Compiled(_Eager):
    """Code for one batch size: a smaller batch is filled up, since code for another would take as long again."""

    def __init__(self, network: nn.Module, way: Way, hardware: Hardware) -> None:
        super().__init__(network, way, hardware)
        self._network = torch.compile(network, dynamic=False)
        self._batch_size = 0

    def __call__(self, images_BCHW: Tensor) -> NetworkOutput:
        import torch._inductor.config as inductor  # takes seconds: only who compiles waits for it

        num = len(images_BCHW)
        self._batch_size = max(self._batch_size, num)
        if num < self._batch_size:
            missing_BCHW = images_BCHW.new_zeros(self._batch_size - num, *images_BCHW.shape[1:])
            images_BCHW = torch.cat([images_BCHW, missing_BCHW])
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)  # another layout is compiled anew too
        # Freezing lays the weights out as the processor's kernels read them.
        with inductor.patch(freezing=self._device == "cpu"):
            output = super().__call__(images_BCHW)
        return NetworkOutput.from_named({name: tensor[:num] for name, tensor in output.named_tensors()})


def _build_onnxruntime(folded: nn.Module, config: ModelConfig, hardware: Hardware) -> Compute:
    from model.artifacts.export import INPUT_NAME, check_export, export_onnx, open_session, output_names, trace_onnx

    try:
        file = trace_onnx(folded, config)
    except ValueError as error:
        _logger.info("%s: exported in full, which takes longer", error)
        file = export_onnx(folded, config)
    session: Any = open_session(file, hardware.num_cores)
    names = output_names(config)

    def run(images_BCHW: Tensor) -> list[np.ndarray]:
        return list(session.run(names, {INPUT_NAME: images_BCHW.contiguous().numpy()}))

    check_export(folded, config, run, batch_sizes=(1,))  # another than the trace was made of

    def compute(images_BCHW: Tensor) -> NetworkOutput:
        return NetworkOutput.from_named(
            {name: torch.from_numpy(array) for name, array in zip(names, run(images_BCHW), strict=True)}
        )

    return compute
