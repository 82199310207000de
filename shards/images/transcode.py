"""Transcode images of other formats to JPEG."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from shards.images.errors import MAX_PIXELS, ImageError

FORMATS = ("PNG", "BMP", "TIFF", "WEBP", "GIF")
"""Accepted formats; the first frame counts."""
QUALITY, SUBSAMPLING = 75, "4:2:0"
"""Those of all released SIXray scans."""

_PAPER = "white"
"""Background of transparent pixels: scanners draw empty space white."""


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
            plain = _flatten(image)
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


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image in 8 bits, grey or RGB, without transparency."""
    if image.mode.startswith("I"):
        # I;16 of a 16-bit PNG or TIFF: the upper byte; Pillow's own convert() clips instead.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, _PAPER), seen).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
