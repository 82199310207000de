"""Decode images with Pillow for people and hashes, and check that an image decodes to its end."""

import io
import re

import numpy as np
import simplejpeg
from PIL import Image

from shards.images.inspect import ImageBytes, is_jpeg, read_image_size
from shards.images.jpeg import ImageError
from shards.images.png import check_png_pixels

_PAPER = "white"
"""Background of transparent pixels: scanners draw empty space white."""
_PARTIAL = re.compile(
    r"premature end|extraneous bytes|bad Huffman|marker|truncated|unrecognized data stream|not enough"
)
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_MAX_PADDING_BYTES = 16
"""Some encoders fill the last word before the end marker."""
_PNG_COLOUR_AT = 25
_PNG_COLOURS_WITH_ALPHA = (4, 6)


def decode_image(data: ImageBytes, draft_px: int | None = None) -> Image.Image:
    """Return an image in 8 bits, grey or RGB, transparency laid on white.

    Args:
        data: a JPEG or PNG.
        draft_px: a JPEG may be decoded at a smaller size whose sides are at least this.

    Raises:
        ImageError, OSError, SyntaxError or ValueError: it cannot be decoded.
    """
    raw = bytes(data)
    read_image_size(raw)  # on a lossless JPEG Pillow's `draft` corrupts the heap
    with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG")) as image:
        if draft_px is not None:
            image.draft("RGB" if image.mode == "RGB" else None, (draft_px, draft_px))
        return flatten(image)


def flatten(image: Image.Image) -> Image.Image:
    """Return an image in 8 bits, grey or RGB, without transparency."""
    if image.mode.startswith("I"):
        # I;16 of a 16-bit PNG or TIFF, scaled as DALI scales it; Pillow's own convert() clips instead.
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, _PAPER), seen).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def without_alpha(data: ImageBytes) -> ImageBytes:
    """Return an image that every decoder sees alike: one with transparency is laid on white, as a PPM.

    DALI drops the alpha channel and shows what is under it, or fails.

    Raises:
        OSError, SyntaxError or ValueError: it cannot be decoded.
    """
    if not _has_alpha(data):
        return data
    return as_ppm(data)


def as_ppm(data: ImageBytes) -> bytes:
    """Return an image decoded by Pillow as a PPM, in RGB, transparency laid on white.

    Raises:
        OSError, SyntaxError or ValueError: it cannot be decoded.
    """
    out = io.BytesIO()
    decode_image(data).convert("RGB").save(out, "PPM")
    return out.getvalue()


def _has_alpha(data: ImageBytes) -> bool:
    start = bytes(data[: _PNG_COLOUR_AT + 1])
    if not start.startswith(b"\x89PNG") or len(start) <= _PNG_COLOUR_AT:
        return False
    return start[_PNG_COLOUR_AT] in _PNG_COLOURS_WITH_ALPHA or b"tRNS" in bytes(data).partition(b"IDAT")[0]


def check_decodable(data: bytes) -> None:
    """Decode an image to its end.

    Pillow fills what is missing of a JPEG with grey and says nothing; libjpeg-turbo's own warnings are taken here.

    Raises:
        ImageError: partial_image if the data ends early or is damaged within, undecodable_image for anything else.
        MemoryError: memory ended, which says nothing of the image.
    """
    try:
        if is_jpeg(data):
            *_, colours, _ = simplejpeg.decode_jpeg_header(data)
            plain = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
            # At an eighth of the size: all data is decoded, few pixels are computed.
            simplejpeg.decode_jpeg(data, plain, min_height=1, min_width=1, strict=True)
        else:
            check_png_pixels(data)
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                image.load()
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # Pillow's decoders raise many types: OSError, SyntaxError, struct.error, ...
        padding = _EXTRANEOUS.search(str(error))
        if padding is None or int(padding[1]) > _MAX_PADDING_BYTES:
            reason = "partial_image" if _PARTIAL.search(str(error)) else "undecodable_image"
            raise ImageError(reason, f"{type(error).__name__}: {error}") from error
