"""Run a DALI pipeline: start batches, and hand their images over to PyTorch.

Shapes: P images of a run  C colour  H W pixels
"""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from model.hardware import Hardware
from model.inputs.augment import is_mirrored
from model.inputs.crop_geometry import read_windows
from model.inputs.dali_graphs import scoring_graph, training_graph
from model.networks.config import InputConfig

DEPTH = 2
"""Batches under way in a pipeline: the next one is decoded while the last one is handed over."""
_MAX_GPU_THREADS = 8
"""Of a pipeline, beside a GPU's JPEG engines: 16 decoded no faster than 8 on an H100 (4 a third slower), and each holds
about 32 MiB of buffers."""


class Taken(NamedTuple):
    """The images of one run."""

    images_PCHW: Tensor
    """float32, on the device, in memory that DALI does not write again."""
    windows_P4: np.ndarray | None
    """float32: what trimming left of each scan; None if nothing is trimmed."""


class DecodingPipeline:
    """A DALI pipeline that is ready to run; not thread-safe. A run that raises ends it: build another one."""

    def __init__(
        self,
        config: InputConfig,
        hardware: Hardware,
        batch_size: int,
        *,
        resize_px: int | None,
        stream: torch.cuda.Stream | None,
        channels_last: bool,
    ) -> None:
        """Build the pipeline and decode a sound image with it.

        Args:
            config: size and normalisation of the images.
            hardware: the device; its cores decode.
            batch_size: of the largest run.
            resize_px: side of the square that crops are taken from; None: no crops.
            stream: of the decoder's own, on its GPU; None on a CPU.
            channels_last: memory format of the images.

        Raises:
            RuntimeError: the sound image cannot be decoded.
        """
        self._channels_last = channels_last
        self._is_cropping = resize_px is not None
        self._stream = stream
        num_cores = hardware.num_cores
        arguments = {
            "channels_last": channels_last,
            "batch_size": batch_size,
            "num_threads": num_cores if stream is None else min(num_cores, _MAX_GPU_THREADS),
            "device_id": None if stream is None else stream.device.index,
            "prefetch_queue_depth": DEPTH,
            "exec_dynamic": True,  # its buffers belong to who holds them, see `take`
        }
        self._pipeline: Any = (
            scoring_graph(config, hardware.decode_device, **arguments)
            if resize_px is None
            else training_graph(config, resize_px, hardware.decode_device, **arguments)
        )
        for _ in range(DEPTH):
            self._feed([np.frombuffer(_sound_image(), np.uint8)], np.zeros((1, 3)) if self._is_cropping else None)
        self._pipeline.schedule_run()  # the first call runs DEPTH batches, any later one a batch
        for _ in range(DEPTH):
            self.take()

    def start(self, encoded: Sequence[np.ndarray], augmentations_P3: np.ndarray | None) -> None:
        """Start a run, and do not wait for it; at most `DEPTH` are under way.

        Args:
            encoded: images, uint8, at most `batch_size`.
            augmentations_P3: of `model.inputs.augment`, if crops are taken.
        """
        self._feed(encoded, augmentations_P3)
        self._pipeline.schedule_run()

    def take(self) -> Taken:
        """Return the images of the oldest run under way.

        Raises:
            RuntimeError: an image cannot be decoded, or the device fails.
        """
        output, *windows = self._pipeline.outputs()
        with torch.cuda.stream(self._stream):
            images = from_dlpack(output.as_tensor())
            images_PCHW = images.permute(0, 3, 1, 2) if self._channels_last else images
            if self._stream is not None:
                # DALI takes its buffer back in the order of its own stream, so a copy must have ended before `output`
                # goes. On a CPU the tensor keeps the buffer, and nothing is copied.
                images_PCHW = images_PCHW.clone()
                wait_for(self._stream)
        return Taken(images_PCHW, read_windows(windows[0]) if windows else None)

    def _feed(self, encoded: Sequence[np.ndarray], augmentations_P3: np.ndarray | None) -> None:
        assert (augmentations_P3 is not None) == self._is_cropping
        self._pipeline.feed_input("encoded", encoded)
        if augmentations_P3 is not None:
            self._pipeline.feed_input("crop_x", augmentations_P3[:, 0].astype(np.float32))
            self._pipeline.feed_input("crop_y", augmentations_P3[:, 1].astype(np.float32))
            self._pipeline.feed_input("mirror", is_mirrored(augmentations_P3).astype(np.int32))


def wait_for(stream: torch.cuda.Stream) -> None:
    """Wait until a stream has done what it was given, and leave the core to others meanwhile: to synchronise spins."""
    done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    done.record(stream)
    done.synchronize()


@cache
def _sound_image() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(out, "JPEG")
    return out.getvalue()
