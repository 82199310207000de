"""What do JPEG bytes look like to a network? A batch decoded by DALI, that an image nobody can decode does not cost.

One bad image ends a DALI pipeline object for good, and its error does not always say which image that was. Here the
pipeline is made anew (2 ms on a CPU) and the batch tried again in pieces, about the square root of its size, and the
piece that fails image by image: two more decodes of that batch, and none where nothing is wrong. DALI's dynamic mode
would go on by itself, but is a third slower for everybody.

Shapes: B batch  C colour  H W pixels
"""

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from model.hardware import Hardware
from model.inputs.crop_geometry import read_windows, whole_windows
from model.inputs.dali_graphs import scoring_arguments, scoring_graph
from model.networks.config import ModelConfig


class Decoded(NamedTuple):
    """A batch of images."""

    images_BCHW: Tensor
    """float32, normalised, in the memory format asked for, on the device; zeros where there is no image."""
    errors: dict[int, str]
    """The decoder's words by place, of images that cannot be decoded."""
    windows_B4: Tensor
    """float32, on the CPU: what is seen of each scan, see `model.inputs.crop_geometry`."""


class BatchDecoder:
    """Decodes batches on one device, one at a time: the scoring graph, and what to do when it fails."""

    def __init__(self, config: ModelConfig, hardware: Hardware, batch_size: int, *, channels_last: bool = True) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self._config = config
        self._hardware = hardware
        self._batch_size = batch_size
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._pipeline = self._build()
        # The copy out of DALI's buffers must end before DALI takes them back, and must not wait for the network.
        self._stream = torch.cuda.Stream() if hardware.device == "cuda" else None  # type: ignore[no-untyped-call]

    def decode(self, encoded: Sequence[bytes | None]) -> Decoded:
        """Return the images of a batch, and why some could not be decoded.

        An image stays in its place and has the same values whatever becomes of its neighbours.

        Args:
            encoded: at most `batch_size` JPEGs; None holds a place for an image that is not to be decoded.

        Raises:
            RuntimeError: the decoder fails on a sound image too, so the machine is at fault (memory, driver).
        """
        arrays = {place: np.frombuffer(image, np.uint8) for place, image in enumerate(encoded) if image is not None}
        errors: dict[int, str] = {}
        with torch.cuda.stream(self._stream):
            images_BCHW = self._empty_images(len(encoded))
            windows_B4 = whole_windows(len(encoded))
            self._decode_into(images_BCHW, windows_B4, list(arrays), arrays, errors)
        return Decoded(images_BCHW, errors, torch.from_numpy(windows_B4))

    def _empty_images(self, num: int) -> Tensor:
        size = self._config.image_size_px
        images_BCHW = torch.zeros(num, 3, size, size, device=self._hardware.device)
        return images_BCHW.contiguous(memory_format=self._memory_format)

    def _decode_into(
        self,
        images_BCHW: Tensor,
        windows_B4: np.ndarray,
        places: list[int],
        arrays: dict[int, np.ndarray],
        errors: dict[int, str],
    ) -> None:
        if not places:
            return
        try:
            self._run(images_BCHW, windows_B4, places, [arrays[place] for place in places])
        except RuntimeError as error:
            self._pipeline = self._build()
            if len(places) == 1:
                self._check_health(error)
                errors[places[0]] = _last_words(error)
                return
            step = math.isqrt(len(places) - 1) + 1
            step = 1 if step >= len(places) else step
            for first in range(0, len(places), step):
                self._decode_into(images_BCHW, windows_B4, places[first : first + step], arrays, errors)

    def _run(self, images_BCHW: Tensor, windows_B4: np.ndarray, places: list[int], arrays: list[np.ndarray]) -> None:
        self._pipeline.feed_input("encoded", arrays)
        decoded, *windows = self._pipeline.run()
        if windows:
            windows_B4[places] = read_windows(windows[0])
        if len(places) == len(images_BCHW):
            images_BCHW.copy_(from_dlpack(decoded.as_tensor()))
        else:
            images_BCHW[places] = from_dlpack(decoded.as_tensor())
        if self._stream is not None:
            self._stream.synchronize()

    def _check_health(self, error: RuntimeError) -> None:
        try:
            self._run(self._empty_images(1), whole_windows(1), [0], [_sound_image()])
        except RuntimeError as second_error:
            raise RuntimeError(
                f"DALI must decode a sound image, got {_last_words(second_error)}; the machine is at fault, not a scan"
            ) from error

    def _build(self) -> Any:
        return scoring_graph(
            **scoring_arguments(self._config, self._hardware.decode_device),
            batch_size=self._batch_size,
            num_threads=self._hardware.num_cores,
            device_id=0 if self._hardware.device == "cuda" else None,
            prefetch_queue_depth=1,  # who calls works ahead, for reading and decoding together
        )


@cache
def _sound_image() -> np.ndarray:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(out, "JPEG")
    return np.frombuffer(out.getvalue(), np.uint8)


def _last_words(error: RuntimeError) -> str:
    """Return what DALI says is wrong, without the graph's own traceback that stands before it."""
    words = str(error).rpartition("encountered:")[2].strip()
    return words.splitlines()[0].rstrip(" :") if words else repr(error)
