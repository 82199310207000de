"""Run a model on its device, batch after batch: logits and peaks as one array that a GPU copies while it works on.

`ScoringNetwork.start` queues a batch and returns at once on a GPU; `StartedBatch.result` waits for its scores. So a
caller that starts the next batch first keeps the GPU busy.

Shapes: B batch  K classes  L levels  C colour  H W pixels  h w cells of a map
        P = K (1 + L + 4) + 2 numbers of a scan, and its maps where boxes are found
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from model.artifacts.saved_model import LoadedModel
from model.hardware import Hardware
from model.inputs.dali_graphs import FANCY_UPSAMPLING, HW_DECODER_LOAD
from model.networks.config import InputConfig, ModelConfig
from model.networks.output import NetworkOutput
from model.networks.peaks import find_peaks
from model.scoring.boxes import find_boxes
from model.scoring.engine_selection import EngineRequest
from model.scoring.engines import choose_engine
from model.scoring.heatmaps import join_heatmaps
from model.scoring.prediction_tables import BatchScores
from shards.predictions.parts import Engine, Gpu

BATCH_SIZES = {"cuda": 256, "cpu": 64}
"""Scans that go through the network at once: a GPU that gets 64 waits for launches."""
ALLOW_TF32 = False
"""float32 is IEEE float32."""
_NUM_WARMUPS = 3
_GRID_SIDE, _WHITE, _NUM_GREYS = 56, 255, 64
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartedBatch:
    """A batch whose scores are being computed."""

    packed_BP: Tensor
    """float32, on the CPU; valid once `copied` is reached."""
    copied: torch.cuda.Event | None
    num_classes: int
    sizes_px_B2: np.ndarray
    windows_B4: np.ndarray
    box_share: float | None = None
    """Of the peak of a map, which its boxes reach; None: no maps, no boxes."""
    map_side: int = 0

    def result(self) -> BatchScores:
        """Wait for the scores and return them."""
        if self.copied is not None:
            self.copied.synchronize()
        packed_BP = self.packed_BP.numpy()
        num_cells = self.num_classes * self.map_side**2
        packed_BP, maps_BC = np.split(packed_BP, [packed_BP.shape[1] - num_cells], axis=1)
        image_B2, packed_BxK = packed_BP[:, -2:], packed_BP[:, :-2].reshape(len(packed_BP), -1, self.num_classes)
        logits_BK, levels_BLK, peaks_B4K = packed_BxK[:, 0], packed_BxK[:, 1:-4], packed_BxK[:, -4:].copy()
        origin_B2, far_B2 = self.windows_B4[:, :2], self.windows_B4[:, 2:]
        seen_B2K = origin_B2[..., None] + peaks_B4K[:, :2] * (far_B2 - origin_B2)[..., None]
        peaks_B4K[:, :2] = seen_B2K * self.sizes_px_B2[..., None]
        boxes = None
        if self.box_share is not None:
            maps_BKhw = maps_BC.reshape(len(packed_BP), self.num_classes, self.map_side, self.map_side)
            found = find_boxes(maps_BKhw, expit(logits_BK.astype(np.float64)), self.box_share)
            boxes = found.place(self.windows_B4, self.sizes_px_B2)
        return BatchScores(logits_BK, levels_BLK.swapaxes(0, 1), peaks_B4K, image_B2, boxes)


class ScoringNetwork:
    """A model on its device, ready for inference; may be shared between scorers and threads."""

    def __init__(
        self,
        model: LoadedModel,
        hardware: Hardware,
        request: EngineRequest | None = None,
        batch_size: int | None = None,
        box_share: float | None = None,
    ) -> None:
        """Prepare a model.

        Args:
            model: as loaded.
            hardware: the device.
            request: engine and dtype; None: the fastest.
            batch_size: most scans that go through the network at once; None: that of `BATCH_SIZES`.
            box_share: of the peak of a map, which its boxes reach, see `model.scoring.boxes`; None: no boxes.

        Raises:
            ValueError: the requested engine cannot run here.
            OSError: the GPU's memory does not hold half of a batch.
        """
        self.config: ModelConfig = model.config
        self.model_id = model.model_id
        self.hardware = hardware
        self.box_share = box_share
        self.batch_size = self.requested_batch_size = batch_size or BATCH_SIZES[hardware.device]
        self.spec, self._compute = choose_engine(
            model.network.eval(), model.config, hardware, request or EngineRequest()
        )
        self.has_cuda_graph = hardware.device == "cuda" and self.spec.engine == "eager"
        self._lock = threading.Lock()
        self._forward: Callable[[Tensor], Tensor] = self._pack
        self._forward = self._prepare()

    def describe(self, batch_size: int) -> Engine:
        """Return how batches of a size are scored, in the form that parts record."""
        hardware, spec = self.hardware, self.spec
        gpu = None
        if hardware.device == "cuda":
            gpu = Gpu(
                name=hardware.name,
                hw_decoder_load=HW_DECODER_LOAD,
                fancy_upsampling=FANCY_UPSAMPLING,
                tf32=ALLOW_TF32,
                cuda_graph=self.has_cuda_graph,
                requested_batch_size=self.requested_batch_size,
            )
        used_batch_size = min(batch_size, self.batch_size)
        return Engine(f"dali-{hardware.decode_device}", hardware.device, spec.dtype, used_batch_size, spec.engine, gpu)

    def score(
        self, images_BCHW: Tensor, widths_px_B: Tensor, heights_px_B: Tensor, windows_B4: Tensor | None = None
    ) -> BatchScores:
        """Return the scores of a batch: `start` and wait."""
        sizes_px_B2 = torch.stack([widths_px_B, heights_px_B], dim=1).numpy()
        return self.start(images_BCHW, sizes_px_B2, None if windows_B4 is None else windows_B4.numpy()).result()

    def start(self, images_BCHW: Tensor, sizes_px_B2: np.ndarray, windows_B4: np.ndarray | None = None) -> StartedBatch:
        """Begin to compute the scores of a batch; on a CPU they are computed when this returns.

        Args:
            images_BCHW: normalised, ready to be read on the current stream.
            sizes_px_B2: width and height of the scans as stored.
            windows_B4: the parts of the scans that the images show, if margins were trimmed.

        Raises:
            OSError: the GPU's memory does not hold half of a batch.
        """
        if windows_B4 is None:
            windows_B4 = np.tile(np.array([0, 0, 1, 1], np.float32), (len(images_BCHW), 1))
        with self._lock, torch.inference_mode():
            packed_BP = self._run(images_BCHW)
            copied = None
            if packed_BP.is_cuda:
                on_cpu_BP = torch.empty(packed_BP.shape, pin_memory=True)
                packed_BP = on_cpu_BP.copy_(packed_BP, non_blocking=True)
                # Who waits for it leaves the cores to the decoder.
                copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                copied.record()
        sizes_px_B2 = sizes_px_B2.astype(np.float32)
        side = 0 if self.box_share is None else self._find_map_side(packed_BP)
        num_classes = len(self.config.classes)
        return StartedBatch(packed_BP, copied, num_classes, sizes_px_B2, windows_B4, self.box_share, side)

    def _run(self, images_BCHW: Tensor) -> Tensor:
        while True:
            try:
                parts = [self._forward(part_bCHW) for part_bCHW in torch.split(images_BCHW, self.batch_size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except torch.OutOfMemoryError as error:
                self._halve_batch(error)
            self._forward = self._prepare()

    def _prepare(self) -> Callable[[Tensor], Tensor]:
        while self.has_cuda_graph:
            try:
                return _CudaGraph(self._pack, self._blank())
            except torch.OutOfMemoryError as error:
                self._halve_batch(error)
            torch.cuda.empty_cache()
        return self._pack

    def _halve_batch(self, error: torch.OutOfMemoryError) -> None:
        if self.batch_size < self.requested_batch_size or self.batch_size == 1:
            raise OSError(
                f"memory of the {self.hardware.device} must hold a batch of {self.batch_size} scans, "
                f"got out of memory ({self.hardware.name}); "
                f"give a --batch-size below {self.batch_size}, or end what else uses the memory"
            ) from error
        self.batch_size //= 2
        self._forward = self._pack  # a graph would keep its memory
        _logger.warning("out of memory: the network takes %d scans at once from now on", self.batch_size)

    def _blank(self) -> Tensor:
        side = self.config.input.size_px
        dtype = torch.bfloat16 if self.spec.dtype == "bfloat16" else torch.float32
        images_BCHW = torch.zeros(self.batch_size, 3, side, side, device=self.hardware.device, dtype=dtype)
        return images_BCHW.contiguous(memory_format=torch.channels_last)

    def _pack(self, images_BCHW: Tensor) -> Tensor:
        # cuDNN tries its kernels, once a shape.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=ALLOW_TF32):
            image_B2 = measure_images(images_BCHW, self.config.input)
            output = self._compute(images_BCHW)
            maps = [] if self.box_share is None else [join_heatmaps(output.heatmaps).flatten(1)]
            return torch.cat([pack_output(output), image_B2, *maps], dim=1)

    def _find_map_side(self, packed_BP: Tensor) -> int:
        num_classes = len(self.config.classes)
        num_others = num_classes * (1 + self.config.num_levels + 4) + 2
        return math.isqrt((packed_BP.shape[1] - num_others) // num_classes)


def pack_output(output: NetworkOutput) -> Tensor:
    """Return logits, logits of every level, and x, y (fractions), level and value of the peaks: float32 (B, P - 2)."""
    ones_B = output.logits_BK.new_ones(len(output.logits_BK))
    peaks = find_peaks(output.heatmaps, ones_B, ones_B)  # in a scan of one pixel: fractions
    rows = [output.logits_BK, *output.level_logits_LBK]
    rows += [peaks.x_px_BK, peaks.y_px_BK, peaks.level_BK, peaks.value_BK]
    return torch.cat([row_BK.float() for row_BK in rows], dim=1)


def measure_images(images_BCHW: Tensor, config: InputConfig) -> Tensor:
    """Return brightness (0 black, 1 white) and entropy in bits of the grey values of normalised images, float32 (B, 2).

    Of every image a grid of at least 56 pixels a side is taken.
    """
    step = max(images_BCHW.shape[-1] // _GRID_SIDE, 1)
    colours = images_BCHW[:, :, ::step, ::step].float().flatten(2).unbind(1)
    channels = zip(colours, config.mean, config.std, strict=True)
    grey_BN = torch.stack([colour_BN * std + mean for colour_BN, mean, std in channels]).mean(0)
    levels_BN = (grey_BN * _WHITE).round().clamp(0, _WHITE).long()
    # Whole numbers, whose sums are exact in any order.
    counts_BV = torch.zeros(len(levels_BN), _WHITE + 1, device=levels_BN.device)
    counts_BV.scatter_add_(1, levels_BN, torch.ones_like(grey_BN))
    brightness_B = levels_BN.sum(1) / (_WHITE * levels_BN.shape[1])
    shares_BV = counts_BV.reshape(len(levels_BN), _NUM_GREYS, -1).sum(2) / levels_BN.shape[1]
    return torch.stack([brightness_B, -torch.xlogy(shares_BV, shares_BV).sum(1) / math.log(2)], dim=1)


class _CudaGraph:
    """Replays a function for batches of one shape: one launch in place of some hundred."""

    def __init__(self, function: Callable[[Tensor], Tensor], images_BCHW: Tensor) -> None:
        self._images_BCHW = images_BCHW
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(_NUM_WARMUPS):  # here cuDNN tries its kernels at the size that they will have
                function(images_BCHW)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Another thread may decode meanwhile: what it does is no error of this one's capture.
        with torch.inference_mode(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output_BP = function(images_BCHW)

    def __call__(self, images_bCHW: Tensor) -> Tensor:
        """Return the output of up to B images; it is overwritten by the next call, in the order of the stream."""
        num = len(images_bCHW)
        self._images_BCHW[:num].copy_(images_bCHW)  # casts; images of an earlier batch stay behind a short one
        self._graph.replay()
        return self._output_BP[:num]
