"""Scans painted of transmissions: a bag, what lies in it, and the exact place of an item."""

import io

import numpy as np
from PIL import Image, ImageDraw

WHITE = np.ones(3)
BAG = np.array([0.97, 0.85, 0.7])
METAL = np.array([0.1, 0.45, 0.75])
SHEET = np.array([0.6, 0.8, 0.55])


def paint(
    *layers: tuple[np.ndarray, np.ndarray],
    size: tuple[int, int] = (240, 200),
    white: float = 255,
    seed: int | None = None,
) -> np.ndarray:
    """Return the pixels (H, W, 3) of the product of some layers, (mask, transmission), perhaps with noise."""
    light = np.ones((size[1], size[0], 3))
    for mask, transmission in layers:
        light *= np.where(mask[..., None], transmission, 1)
    if seed is not None:
        light *= np.exp(np.random.default_rng(seed).normal(0, 0.01, light.shape))
    return np.rint(white * light).clip(0, 255).astype(np.uint8)


def rectangle(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (240, 200)) -> np.ndarray:
    """Return the mask of a rectangle, without its right and bottom edge."""
    mask = np.zeros((size[1], size[0]), bool)
    mask[top:bottom, left:right] = True
    return mask


def tool(x: int, y: int, size: tuple[int, int] = (240, 200)) -> np.ndarray:
    """Return the mask of an item of 60 x 30 pixels: a bar with a round head."""
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    draw.ellipse((x, y, x + 29, y + 29), fill=1)
    draw.rectangle((x + 15, y + 10, x + 59, y + 19), fill=1)
    return np.asarray(image)


def as_jpeg(pixels: np.ndarray, **options: object) -> bytes:
    """Return pixels as a JPEG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **{"quality": 90, **options})
    return out.getvalue()
