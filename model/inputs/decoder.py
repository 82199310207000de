"""Decode batches of images with DALI; an image that cannot be decoded costs its own place alone.

One bad image ends a DALI pipeline object, and its error does not always name the image. So the pipeline is built anew,
and the batch decoded again: the images that `check_decodable` refuses alone, all others together. DALI's dynamic mode
would recover by itself, but is a third slower for every batch.

DALI reports neither memory that ended nor an image that it does not know as such. An image that it refuses alone, and
that `check_decodable` accepts, is therefore decoded by Pillow: no sound scan is refused.

Shapes: B batch  P images of a part  C colour  H W pixels
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from nvidia.dali import backend
from torch import Tensor

from model.hardware import Hardware
from model.inputs.crop_geometry import whole_windows
from model.inputs.dali_pipeline import DEPTH, DecodingPipeline, Taken, wait_for
from model.inputs.decoded_batch import Decoded, PendingBatch
from model.networks.config import InputConfig
from shards.images.decode import as_ppm, check_decodable
from shards.images.inspect import ImageBytes, read_image_size
from shards.images.jpeg import ImageError

T = TypeVar("T")

_log = logging.getLogger(__name__)
_GPU_PIPELINES = 2
"""Batches of 256 on an H100: one pipeline decodes 14,100 scans a second, two that take turns 24,700."""
_CHECK_THREADS = 8


class BatchDecoder:
    """Decodes batches on one device: whole scans, or with `resize_px` the random crops of training.

    `decode` takes a batch and returns it. `decode_ahead` takes batch after batch, so that the next ones are decoded
    while the caller works on one. Not thread-safe.
    """

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

        Raises:
            RuntimeError: the machine decodes nothing (driver, memory).
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self._config = config
        self._hardware = hardware
        self._batch_size = batch_size
        self._resize_px = resize_px
        self._channels_last = channels_last
        self._gpu = torch.device("cuda", device_index) if hardware.device == "cuda" else None
        self._stream = None if self._gpu is None else torch.cuda.Stream(self._gpu)  # type: ignore[no-untyped-call]
        self._jobs: deque[PendingBatch] = deque()
        num_pipelines = 1 if self._gpu is None else _GPU_PIPELINES
        self._pipelines: list[DecodingPipeline | None] = [self._build() for _ in range(num_pipelines)]
        """None: lost with an error, and not built anew."""
        self._num_submitted = 0

    def decode_ahead(
        self, batches: Iterable[tuple[T, Sequence[ImageBytes | None], np.ndarray | None]]
    ) -> Generator[tuple[T, Decoded], None, None]:
        """Yield each batch with what it was given for, the next one being decoded meanwhile.

        Args:
            batches: anything that tells the batch, and the arguments of `decode`.

        Raises:
            MemoryError, RuntimeError: as `decode` does.
        """
        given: deque[T] = deque()
        try:
            for label, encoded, augmentations_B3 in batches:
                self._submit(encoded, augmentations_B3)
                given.append(label)
                if len(given) == DEPTH * len(self._pipelines):
                    yield given.popleft(), self._collect()
            while given:
                yield given.popleft(), self._collect()
        finally:
            abandoned = {job.pipeline for job in self._jobs}  # the caller stopped early
            self._jobs.clear()
            for pipeline in abandoned:
                self._rebuild(pipeline)

    def decode(self, encoded: Sequence[ImageBytes | None], augmentations_B3: np.ndarray | None = None) -> Decoded:
        """Return the images of a batch, and why some could not be decoded.

        An image keeps its place and values whether or not its neighbours can be decoded. Pass the images to
        `use_on_current_stream` before they are used.

        Args:
            encoded: at most `batch_size` JPEGs or PNGs (transparency is laid on white, as everywhere); None holds a
                place for an image that is not to be decoded.
            augmentations_B3: of `model.inputs.augment`, if there is a `resize_px`.

        Raises:
            MemoryError: a sound image does not fit into memory, not even alone.
            RuntimeError: the decoder fails on a sound image too, so the machine is at fault (driver, memory).
        """
        assert not self._jobs
        self._submit(encoded, augmentations_B3)
        return self._collect()

    def _submit(self, encoded: Sequence[ImageBytes | None], augmentations_B3: np.ndarray | None) -> None:
        assert (augmentations_B3 is None) == (self._resize_px is None)
        pipeline = self._num_submitted % len(self._pipelines)
        job = PendingBatch(augmentations_B3, whole_windows(len(encoded)), pipeline, self._blank)
        # nvJPEG fills what is missing with grey and says nothing.
        job.take_images(encoded, with_end_check=self._gpu is not None)
        self._jobs.append(job)
        self._num_submitted += 1
        self._start(job)

    def _collect(self) -> Decoded:
        job = self._jobs.popleft()
        places = list(job.arrays)
        with torch.cuda.stream(self._stream):
            if places:
                try:
                    if not job.is_started:
                        raise RuntimeError("the pipeline took no further batch")
                    job.put(places, self._pipeline_of(job).take())
                except (RuntimeError, MemoryError) as error:
                    self._decode_parts(job, places, error)
                    for other in self._jobs:
                        if other.pipeline == job.pipeline:  # lost with it
                            self._start(other)
            images_BCHW = job.finish(repeats_first=self._resize_px is not None)
            if self._stream is not None:
                wait_for(self._stream)
        return Decoded(images_BCHW, job.errors, torch.from_numpy(job.windows_B4))

    def _start(self, job: PendingBatch) -> None:
        if not job.arrays:
            return
        try:
            self._pipeline_of(job).start(list(job.arrays.values()), job.select_augmentations(list(job.arrays)))
            job.is_started = True
        except (RuntimeError, MemoryError):  # after another batch has ended the pipeline: `_collect` begins again
            job.is_started = False

    def _decode_parts(self, job: PendingBatch, places: list[int], error: Exception) -> None:
        """Decode images that failed together in parts, down to the ones that fail alone."""
        error.__traceback__ = None  # its frames hold the pipeline, and that its memory
        self._rebuild(job.pipeline)
        if len(places) == 1:
            self._decode_refused(job, places[0], error)
            return
        with ThreadPoolExecutor(_CHECK_THREADS) as pool:
            is_sound = dict(zip(places, pool.map(_is_sound, (job.arrays[place] for place in places)), strict=True))
        sound, suspect = ([place for place in places if is_sound[place] == wanted] for wanted in (True, False))
        if suspect:
            parts = [sound, *([place] for place in suspect)]
        else:
            _log.warning(
                "%d sound images could not be decoded at once and are decoded in parts: %s; if that recurs, memory is "
                "short: take a smaller --batch-size",
                len(places),
                _shorten(error),
            )
            half = len(places) // 2
            parts = [places[:half], places[half:]]
        for part in filter(None, parts):
            try:
                job.put(part, self._run(job, part, [job.arrays[place] for place in part]))
            except (RuntimeError, MemoryError) as part_error:
                self._decode_parts(job, part, part_error)

    def _decode_refused(self, job: PendingBatch, place: int, error: Exception) -> None:
        """Note the error of an image that cannot be decoded; decode a sound one in another way."""
        image = job.arrays[place]
        if not _is_sound(image):
            job.errors[place] = _shorten(error)
            return
        try:
            if self._gpu is not None:
                torch.cuda.empty_cache()
            backend.ReleaseUnusedMemory()  # type: ignore[attr-defined]  # missing in its stubs
            pixels = np.frombuffer(as_ppm(image.tobytes()), np.uint8)
            job.put([place], self._run(job, [place], [pixels]))
        except (RuntimeError, MemoryError) as second_error:
            second_error.__traceback__ = None
            self._rebuild(job.pipeline)
            width, height = read_image_size(image.tobytes())
            raise MemoryError(
                f"a sound image must fit into memory, got one of {width} x {height} pixels that does not, "
                f"decoded alone: {_shorten(second_error)} (image {place} of a batch of {len(job.windows_B4)}); free "
                f"memory of the machine, or run on a larger one"
            ) from error

    def _run(self, job: PendingBatch, places: list[int], encoded: list[np.ndarray]) -> Taken:
        """Decode images in a pipeline that was just built, so that none of its batches is under way."""
        pipeline = self._pipeline_of(job)
        pipeline.start(encoded, job.select_augmentations(places))
        return pipeline.take()

    def _pipeline_of(self, job: PendingBatch) -> DecodingPipeline:
        pipeline = self._pipelines[job.pipeline]
        if pipeline is None:
            raise RuntimeError("the pipeline was lost with an error")
        return pipeline

    def _blank(self, num_images: int) -> Tensor:
        size = self._config.size_px
        memory_format = torch.channels_last if self._channels_last else torch.contiguous_format
        blank_BCHW = torch.zeros(num_images, 3, size, size, device=self._gpu or "cpu")
        return blank_BCHW.contiguous(memory_format=memory_format)

    def _rebuild(self, pipeline: int) -> None:
        self._pipelines[pipeline] = None  # its memory goes before the next one takes some
        self._pipelines[pipeline] = self._build()

    def _build(self) -> DecodingPipeline:
        try:
            return DecodingPipeline(
                self._config,
                self._hardware,
                self._batch_size,
                resize_px=self._resize_px,
                stream=self._stream,
                channels_last=self._channels_last,
            )
        except RuntimeError as error:
            raise RuntimeError(
                f"DALI must decode a sound image, got {_shorten(error)}; the machine is at fault, not a scan"
            ) from error


def _is_sound(image: np.ndarray) -> bool:
    try:
        check_decodable(image.tobytes())
        read_image_size(image.tobytes())
    except ImageError:
        return False
    return True


def use_on_current_stream(images_BCHW: Tensor) -> Tensor:
    """Return the images of a decoder after telling PyTorch that the caller's stream uses them.

    They lie in memory of the decoder's stream: without this, the next batch could be written over them while kernels of
    the caller still read. Nothing to do on a CPU.
    """
    if images_BCHW.is_cuda:
        images_BCHW.record_stream(torch.cuda.current_stream(images_BCHW.device))
    return images_BCHW


def _shorten(error: Exception) -> str:
    """Return DALI's message without the traceback of the graph before it."""
    words = str(error).rpartition("encountered:")[2].strip()
    return words.splitlines()[0].rstrip(" :") if words else repr(error)
