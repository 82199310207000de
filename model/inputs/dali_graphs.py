"""Define the DALI graphs that turn JPEG bytes into network input; CPU and GPU differ by the decode device alone.

Encoded images are fed from outside (`pipeline.feed_input("encoded", [uint8 array, ...])`), so that the caller decides
what is read, in which order, and how to recover from an image that cannot be decoded (`model.inputs.decoder`).

Call them as `scoring_graph(config, "cpu", batch_size=..., num_threads=..., device_id=...)`; batches may be smaller than
`batch_size`. `device_id` is None on a machine without a GPU. Output: float32, normalised, (B, H, W, 3) if
`channels_last`, else (B, 3, H, W); and if margins are trimmed a second one, int32 (B, 6): x, y, width and height of
what was kept, width and height of the whole.
"""

from typing import Any

from nvidia.dali import fn, pipeline_def, types

from model.networks.config import WHITE, InputConfig

FANCY_UPSAMPLING = True
"""Chroma is interpolated, as a processor does: without it pixels differ by up to 12 of 255."""
HW_DECODER_LOAD = 1.0
"""Share of a batch's bytes that the GPU's JPEG engines decode. The rest, the smallest images, go to CUDA kernels, which
round otherwise: at DALI's 0.65 the pixels of 22 of 64 scans depended on their neighbours, at 1.0 of none, and an H100
decoded 14,100 scans a second rather than 10,700."""


@pipeline_def
def scoring_graph(config: InputConfig, decode_device: str, channels_last: bool) -> Any:
    """Decode, squash to a square, normalise. Inputs: `encoded`.

    The aspect ratio is not kept, so the whole scan is always seen.

    Args:
        config: of the network's input.
        decode_device: `cpu`, or `mixed` (nvJPEG) on a machine with a GPU.
        channels_last: memory format of the images.
    """
    images, *windows = _decode(config, decode_device)
    images = _squash(images, config.size_px)
    images = fn.crop_mirror_normalize(images, **_normalisation(config, channels_last))
    return images, *windows


@pipeline_def
def training_graph(config: InputConfig, resize_px: int, decode_device: str, channels_last: bool) -> Any:
    """Decode, squash, crop, mirror, normalise. Inputs: `encoded`, `crop_x`, `crop_y`, `mirror`.

    The random numbers are inputs, one of each a sample, so that a sample's augmentation depends neither on its batch,
    nor on the rank, nor on where a run was resumed. `crop_x`, `crop_y` are in 0..1 (0 left or top, 1 right or bottom).

    Args:
        config: of the network's input, the crop.
        resize_px: side of the square that the scan is squashed to before the crop.
        decode_device: `cpu`, or `mixed` (nvJPEG) on a machine with a GPU.
        channels_last: memory format of the images.
    """
    crop_x = fn.external_source(name="crop_x", dtype=types.FLOAT, ndim=0)
    crop_y = fn.external_source(name="crop_y", dtype=types.FLOAT, ndim=0)
    mirror = fn.external_source(name="mirror", dtype=types.INT32, ndim=0)
    images, *windows = _decode(config, decode_device)
    images = _squash(images, resize_px)
    images = fn.crop_mirror_normalize(
        images,
        crop=(config.size_px, config.size_px),
        crop_pos_x=crop_x,
        crop_pos_y=crop_y,
        mirror=mirror,
        **_normalisation(config, channels_last),
    )
    return images, *windows


def _decode(config: InputConfig, decode_device: str) -> tuple[Any, ...]:
    encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
    # Orientation tags are not applied: sizes and boxes are those of the scan as it is stored.
    images = fn.decoders.image(
        encoded,
        device=decode_device,
        output_type=types.RGB,
        adjust_orientation=False,
        jpeg_fancy_upsampling=FANCY_UPSAMPLING,  # as on a CPU, where neither this nor the next option changes anything
        hw_decoder_load=HW_DECODER_LOAD,
    )
    return _trim(images) if config.trim_margins else (images,)


def _squash(images: Any, side_px: int) -> Any:
    # Antialiased bilinear, as Pillow's `resize`: scans are several times larger than the network's input.
    return fn.resize(images, resize_x=side_px, resize_y=side_px, interp_type=types.INTERP_LINEAR)


def _normalisation(config: InputConfig, channels_last: bool) -> dict[str, Any]:
    mean, std = ([255 * value for value in values] for values in (config.mean, config.std))
    return {"dtype": types.FLOAT, "output_layout": "HWC" if channels_last else "CHW", "mean": mean, "std": std}


def _trim(images: Any) -> tuple[Any, Any]:
    """Return the part of each image within its white margins, and where that is; a white image stays whole."""
    y, height, whole_height = _content(images, axis=0)
    x, width, whole_width = _content(images, axis=1)
    kept = fn.slice(images, fn.stack(y, x), fn.stack(height, width), axes=[0, 1])
    return kept, fn.stack(x, y, width, height, whole_width, whole_height)


def _content(images: Any, axis: int) -> tuple[Any, Any, Any]:
    """Return where the content of each image begins along an axis, its length, and the length of the image."""
    darkest = fn.reductions.min(images, axes=[1 - axis, 2]).cpu()
    is_content = fn.cast(darkest < WHITE, dtype=types.FLOAT)
    # The non-silent region of a signal of zeros and ones reaches from the first one to the last.
    begin, length = fn.nonsilent_region(is_content, cutoff_db=-3.0, reference_power=1.0, window_length=1)
    side = fn.cast(images.shape()[axis], dtype=types.INT32)
    is_white = fn.cast(length == 0, dtype=types.INT32)
    return begin * (1 - is_white), length + is_white * side, side
