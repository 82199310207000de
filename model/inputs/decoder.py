"""Decode batches of images with DALI; an image that cannot be decoded costs its own place alone.

One bad image ends a DALI pipeline object for good, and its error does not always name the image. So the pipeline is
built anew (2 ms on a CPU) and the batch decoded again in pieces of about the square root of its size, and a piece that
fails image by image: two more decodes of that batch, and none if nothing is wrong. DALI's dynamic mode would recover
by itself, but is a third slower for every batch.

Shapes: B batch  C colour  H W pixels
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from model.hardware import Hardware
from model.inputs.augment import is_mirrored
from model.inputs.crop_geometry import read_windows, whole_windows
from model.inputs.dali_graphs import scoring_graph, training_graph
from model.networks.config import InputConfig
from shards.images.decode import without_alpha


class Decoded(NamedTuple):
    """A batch of images."""

    images_BCHW: Tensor
    """float32, normalised, in the memory format asked for, on the device; zeros for places without an image."""
    errors: dict[int, str]
    """DALI's message by place, of images that cannot be decoded."""
    windows_B4: Tensor
    """float32, on the CPU: what trimming left of each scan, see `model.inputs.crop_geometry`."""


@dataclass(slots=True)
class _Job:
    """A batch while it is decoded."""

    arrays: dict[int, np.ndarray]
    """Encoded images by place."""
    augmentations_B3: np.ndarray | None
    images_BCHW: Tensor
    windows_B4: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)


class BatchDecoder:
    """Decodes batches on one device, one at a time: whole scans, or with `resize_px` the random crops of training."""

    def __init__(
        self,
        config: InputConfig,
        hardware: Hardware,
        batch_size: int,
        *,
        resize_px: int | None = None,
        device_index: int = 0,
        channels_last: bool = True,
    ) -> None:
        """Build the pipeline.

        Args:
            config: size and normalisation of the images.
            hardware: the device; its cores decode.
            batch_size: of the largest batch.
            resize_px: side of the square that crops are taken from; None: no crops.
            device_index: of the GPU, if the device is one.
            channels_last: memory format of the images.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self._config = config
        self._hardware = hardware
        self._batch_size = batch_size
        self._resize_px = resize_px
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._gpu = torch.device("cuda", device_index) if hardware.device == "cuda" else None
        self._pipeline = self._build()
        # The copy out of DALI's buffers must end before DALI reuses them, and must not wait for the network.
        self._stream = None if self._gpu is None else torch.cuda.Stream(self._gpu)  # type: ignore[no-untyped-call]

    def decode(self, encoded: Sequence[bytes | None], augmentations_B3: np.ndarray | None = None) -> Decoded:
        """Return the images of a batch, and why some could not be decoded.

        An image keeps its place and values whether or not its neighbours can be decoded.

        Args:
            encoded: at most `batch_size` JPEGs or PNGs (transparency is laid on white, as everywhere); None holds a
                place for an image that is not to be decoded.
            augmentations_B3: of `model.inputs.augment`, if there is a `resize_px`.

        Raises:
            RuntimeError: the decoder fails on a sound image too, so the machine is at fault (memory, driver).
        """
        assert (augmentations_B3 is None) == (self._resize_px is None)
        with torch.cuda.stream(self._stream):
            job = self._start(encoded, augmentations_B3)
            self._decode(job, list(job.arrays))
        if self._gpu is not None:  # memory of one stream, used by the network on another
            job.images_BCHW.record_stream(torch.cuda.default_stream(self._gpu))
        return Decoded(job.images_BCHW, job.errors, torch.from_numpy(job.windows_B4))

    def _start(self, encoded: Sequence[bytes | None], augmentations_B3: np.ndarray | None) -> _Job:
        arrays: dict[int, np.ndarray] = {}
        errors: dict[int, str] = {}
        for place, image in enumerate(encoded):
            if image is not None:
                try:
                    arrays[place] = np.frombuffer(without_alpha(image), np.uint8)
                except (OSError, SyntaxError, ValueError) as error:
                    errors[place] = f"{type(error).__name__}: {error}"
        size = self._config.size_px
        images_BCHW = torch.zeros(len(encoded), 3, size, size, device=self._gpu or "cpu")
        images_BCHW = images_BCHW.contiguous(memory_format=self._memory_format)
        return _Job(arrays, augmentations_B3, images_BCHW, whole_windows(len(encoded)), errors)

    def _decode(self, job: _Job, places: list[int]) -> None:
        if not places:
            return
        try:
            self._run(job, places)
        except RuntimeError as error:
            self._pipeline = self._build()
            if len(places) == 1:
                self._check_health(error)
                job.errors[places[0]] = _shorten(error)
                return
            step = math.isqrt(len(places) - 1) + 1
            step = 1 if step >= len(places) else step
            for first in range(0, len(places), step):
                self._decode(job, places[first : first + step])

    def _run(self, job: _Job, places: list[int]) -> None:
        self._pipeline.feed_input("encoded", [job.arrays[place] for place in places])
        if job.augmentations_B3 is not None:
            augmentations_P3 = job.augmentations_B3[places]
            self._pipeline.feed_input("crop_x", augmentations_P3[:, 0].astype(np.float32))
            self._pipeline.feed_input("crop_y", augmentations_P3[:, 1].astype(np.float32))
            self._pipeline.feed_input("mirror", is_mirrored(augmentations_P3).astype(np.int32))
        decoded, *windows = self._pipeline.run()
        if windows:
            job.windows_B4[places] = read_windows(windows[0])
        if len(places) == len(job.images_BCHW):
            job.images_BCHW.copy_(from_dlpack(decoded.as_tensor()))
        else:
            job.images_BCHW[places] = from_dlpack(decoded.as_tensor())
        if self._stream is not None:
            self._stream.synchronize()

    def _check_health(self, error: RuntimeError) -> None:
        try:
            self._run(self._start([_sound_image()], None if self._resize_px is None else np.zeros((1, 3))), [0])
        except RuntimeError as second_error:
            raise RuntimeError(
                f"DALI must decode a sound image, got {_shorten(second_error)}; the machine is at fault, not a scan"
            ) from error

    def _build(self) -> Any:
        arguments = {
            "batch_size": self._batch_size,
            "num_threads": self._hardware.num_cores,
            "device_id": None if self._gpu is None else self._gpu.index,
            "prefetch_queue_depth": 1,  # callers prefetch reading and decoding together
        }
        if self._resize_px is None:
            return scoring_graph(self._config, self._hardware.decode_device, **arguments)
        return training_graph(self._config, self._resize_px, self._hardware.decode_device, **arguments)


@cache
def _sound_image() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(out, "JPEG")
    return out.getvalue()


def _shorten(error: RuntimeError) -> str:
    """Return DALI's message without the traceback of the graph before it."""
    words = str(error).rpartition("encountered:")[2].strip()
    return words.splitlines()[0].rstrip(" :") if words else repr(error)
