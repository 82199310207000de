"""How do JPEG bytes become network input? Two DALI graphs; CPU and GPU differ by the decode device alone.

Both take encoded images from outside (`pipeline.feed_input("encoded", [uint8 array, ...])`), so that the caller
decides what is read, in which order, and what happens to a scan that cannot be decoded: one bad image ends a DALI
pipeline object for good, and its error does not always say which image that was.

Call them as `scoring_graph(image_size_px=..., ..., batch_size=..., num_threads=..., device_id=...)`; batches may be
smaller than `batch_size`. `device_id` is None on a machine without a GPU. Output: float32, (B, 3, H, W), normalised;
and where margins are trimmed a second one, int32 (B, 6): x, y, width and height of what was kept, width and height of
all.
"""

from typing import Any

from nvidia.dali import fn, pipeline_def, types

from model.networks.config import WHITE, ModelConfig


@pipeline_def
def scoring_graph(
    image_size_px: int, mean: tuple[float, ...], std: tuple[float, ...], decode_device: str, trim_margins: bool = False
) -> Any:
    """Decode, squash to a square, normalise. Inputs: `encoded`.

    Args:
        image_size_px: side of the square; the aspect ratio is not kept, so the whole scan is always seen.
        mean: of RGB in 0..1.
        std: of RGB in 0..1.
        decode_device: `cpu`, or `mixed` (nvJPEG) where there is a GPU.
        trim_margins: cut white margins off first.
    """
    encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
    images = _decode(encoded, decode_device)
    images, *windows = _trim(images) if trim_margins else (images,)
    # Antialiased bilinear, as Pillow's `resize`: scans are several times larger than the network's input.
    images = fn.resize(images, resize_x=image_size_px, resize_y=image_size_px, interp_type=types.INTERP_LINEAR)
    images = fn.crop_mirror_normalize(
        images, dtype=types.FLOAT, output_layout="CHW", mean=_in_255(mean), std=_in_255(std)
    )
    return images, *windows


@pipeline_def
def training_graph(
    resize_px: int,
    crop_px: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    decode_device: str,
    trim_margins: bool = False,
) -> Any:
    """Decode, squash, crop, mirror, normalise. Inputs: `encoded`, `crop_x`, `crop_y`, `mirror`.

    The random numbers come from outside, one of each a sample, so that a sample's augmentation depends neither on the
    batch it is in, nor on the rank, nor on where a run was resumed.

    Args:
        resize_px: side of the square that the scan is squashed to.
        crop_px: side of the part that the network sees; `crop_x`, `crop_y` in 0..1 say where (0 left, 1 right).
        mean: of RGB in 0..1.
        std: of RGB in 0..1.
        decode_device: `cpu`, or `mixed` (nvJPEG) where there is a GPU.
        trim_margins: cut white margins off first.
    """
    encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
    crop_x = fn.external_source(name="crop_x", dtype=types.FLOAT, ndim=0)
    crop_y = fn.external_source(name="crop_y", dtype=types.FLOAT, ndim=0)
    mirror = fn.external_source(name="mirror", dtype=types.INT32, ndim=0)
    images = _decode(encoded, decode_device)
    images, *windows = _trim(images) if trim_margins else (images,)
    images = fn.resize(images, resize_x=resize_px, resize_y=resize_px, interp_type=types.INTERP_LINEAR)
    images = fn.crop_mirror_normalize(
        images,
        crop=(crop_px, crop_px),
        crop_pos_x=crop_x,
        crop_pos_y=crop_y,
        mirror=mirror,
        dtype=types.FLOAT,
        output_layout="CHW",
        mean=_in_255(mean),
        std=_in_255(std),
    )
    return images, *windows


def _decode(encoded: Any, decode_device: str) -> Any:
    # Orientation tags are not applied: sizes and boxes are those of the scan as it is stored.
    return fn.decoders.image(encoded, device=decode_device, output_type=types.RGB, adjust_orientation=False)


def _trim(images: Any) -> tuple[Any, Any]:
    """Return the part of each image within its white margins, and where that is; a white image stays whole."""
    y, height, whole_height = _content(images, axis=0)
    x, width, whole_width = _content(images, axis=1)
    kept = fn.slice(images, fn.stack(y, x), fn.stack(height, width), axes=[0, 1])
    return kept, fn.stack(x, y, width, height, whole_width, whole_height)


def _content(images: Any, axis: int) -> tuple[Any, Any, Any]:
    """Return where the content of each image begins along an axis, how long it is, and how long the image is."""
    darkest = fn.reductions.min(images, axes=[1 - axis, 2]).cpu()
    is_content = fn.cast(darkest < WHITE, dtype=types.FLOAT)
    # What is not silent in a signal of zeros and ones, each value for itself: from the first one to the last.
    begin, length = fn.nonsilent_region(is_content, cutoff_db=-3.0, reference_power=1.0, window_length=1)
    side = fn.cast(images.shape()[axis], dtype=types.INT32)
    is_white = fn.cast(length == 0, dtype=types.INT32)
    return begin * (1 - is_white), length + is_white * side, side


def scoring_arguments(config: ModelConfig, decode_device: str) -> dict[str, Any]:
    """Return the arguments of `scoring_graph` that follow from a model's config."""
    return {
        "image_size_px": config.image_size_px,
        "mean": config.mean,
        "std": config.std,
        "decode_device": decode_device,
        "trim_margins": config.trim_margins,
    }


def _in_255(values: tuple[float, ...]) -> list[float]:
    return [255 * value for value in values]
