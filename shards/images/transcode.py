"""Transcode images of other formats to JPEG, and encode changed ones as they were."""

import io

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from shards.images.decode import flatten
from shards.images.jpeg import MAX_PIXELS, ImageError

FORMATS = ("PNG", "BMP", "TIFF", "WEBP", "GIF")
"""Accepted formats; the first frame counts."""
QUALITY, SUBSAMPLING = 75, "4:2:0"
"""Those of all released SIXray scans."""


def to_jpeg(data: bytes) -> bytes:
    """Return an image as baseline JPEG; deterministic for one release of Pillow and its libjpeg.

    Transparency becomes white, 16 bits become 8, grey stays grey. Orientation tags are not applied, since boxes are in
    pixels as stored.

    Raises:
        ImageError: unknown_format, oversized_image, or undecodable_image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                detail = f"the header claims {image.width} x {image.height} pixels, at most {MAX_PIXELS} are read"
                raise ImageError("oversized_image", detail)
            plain = flatten(image)
        out = io.BytesIO()
        plain.save(out, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("oversized_image", str(error)) from error
    except UnidentifiedImageError as error:
        detail = f"the file begins with {data[:8].hex(' ')}, none of JPEG, {', '.join(FORMATS)}"
        raise ImageError("unknown_format", detail) from error
    except Exception as error:  # Pillow's decoders raise many types: OSError, SyntaxError, struct.error, ...
        raise ImageError("undecodable_image", f"{type(error).__name__}: {error}") from error
    return out.getvalue()


def encode_like(pixels_HWC: np.ndarray, original: bytes) -> bytes:
    """Encode changed pixels as their image was: a PNG stays one, a JPEG keeps its tables, and grey stays grey.

    So what was not changed is nearly the same to the bit, and no other quality tells which images were changed.
    """
    with Image.open(io.BytesIO(original), formats=("JPEG", "PNG")) as image:
        changed = Image.fromarray(pixels_HWC)
        if image.mode in ("1", "L", "LA", "I", "I;16"):
            changed = changed.convert("L")
        out = io.BytesIO()
        if image.format == "PNG":
            changed.save(out, "PNG")
        else:
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            sampling = JpegImagePlugin.get_sampling(image)
            changed.save(out, "JPEG", qtables=image.quantization, subsampling=SUBSAMPLING if sampling < 0 else sampling)
    return out.getvalue()
