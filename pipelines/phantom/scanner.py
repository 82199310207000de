"""What picture does a dual-energy line scanner make of what lies in its beam?"""

# H, W pixels of the scan

import functools
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.phantom.materials import load_materials
from pipelines.phantom.shapes import Floats, Part, Pose, render_part

Bytes = npt.NDArray[np.uint8]

_NUM_TONES, _NUM_RATIOS = 1024, 96
_MAX_RATIO = 3.6
_NOISE_PX = 1024


class Beam:
    """The attenuation that objects add up to, pixel by pixel, at both energies (Beer-Lambert).

    Transmissions multiply, so attenuation integrals add: the order of objects does not matter.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self.low_HW: Floats = np.zeros((height_px, width_px), dtype=np.float32)
        """-log of the transmission at 60 keV."""
        self.high_HW: Floats = np.zeros((height_px, width_px), dtype=np.float32)
        """-log of the transmission at 100 keV."""

    def add(self, item: Iterable[Part], pose: Pose) -> None:
        """Put an item into the beam; what lies outside the scan is cut off."""
        materials = load_materials()
        for part in item:
            rendered = render_part(part, pose, self.width_px, self.height_px)
            if rendered is None:
                continue
            left, top, thickness_HW = rendered
            height, width = thickness_HW.shape
            material = materials[part.material]
            self.low_HW[top : top + height, left : left + width] += np.float32(material.low_per_cm) * thickness_HW
            self.high_HW[top : top + height, left : left + width] += np.float32(material.high_per_cm) * thickness_HW


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """A model of scanner: its detector and its colours, measured on released scans of that look."""

    name: str
    ratio_stops: tuple[float, ...]
    """Low over high attenuation at which `colours` has a row: organic, mixed, mineral, light metal, metal."""
    attenuation_stops: tuple[float, ...]
    tone_at_attenuation: tuple[float, ...]
    """Brightness (0-255) at each of `attenuation_stops`."""
    tone_stops: tuple[float, ...]
    """Brightness at which `colours` has a column."""
    colours: tuple[tuple[tuple[int, int, int], ...], ...]
    noise_fraction: float
    """Standard deviation of the signal with nothing in the beam; photon noise grows as 1/sqrt(signal)."""
    line_noise_fraction: float
    """The same for the gain of a whole detector line: the faint bands along the belt."""
    scatter_fraction: float
    """Of the open beam, reaches the detector whatever lies between: what makes thick metal impenetrable."""
    floor_attenuation: float
    """What is shown as empty belt."""
    sharpening: float
    """How much of the difference to the local mean is added to the attenuation that sets the brightness."""
    streaks: tuple[int, int]
    """Least and most detector lines that are off calibration in a scan."""

    def develop(self, beam: Beam, rng: np.random.Generator) -> Bytes:
        """Return the pseudo-colour picture (H, W, 3) of a beam."""
        gain_H1 = self._draw_line_gains(beam.height_px, rng)
        low_HW = self._detect(beam.low_HW, gain_H1, rng)
        high_HW = self._detect(beam.high_HW, gain_H1, rng)
        ratio_HW = _estimate_ratio(low_HW, high_HW)
        low_HW += np.float32(self.sharpening) * (low_HW - _blur(low_HW))
        return self._colour(low_HW, ratio_HW)

    def _draw_line_gains(self, num_lines: int, rng: np.random.Generator) -> Floats:
        gain_H = rng.normal(0, self.line_noise_fraction, num_lines)
        for _ in range(int(rng.integers(self.streaks[0], self.streaks[1] + 1))):
            gain_H[rng.integers(num_lines)] -= rng.uniform(0.02, 0.06)
        return (1 + gain_H).astype(np.float32)[:, None]

    def _detect(self, attenuation_HW: Floats, gain_H1: Floats, rng: np.random.Generator) -> Floats:
        signal_HW = np.exp(-attenuation_HW)
        signal_HW += np.float32(self.scatter_fraction)
        noise_HW = _noise(attenuation_HW.shape, rng)
        signal_HW += np.float32(self.noise_fraction) * np.sqrt(signal_HW) * noise_HW
        signal_HW *= gain_H1
        # One part in 3,000 is the least step of the detector: zero signal must not become an infinite attenuation.
        np.maximum(signal_HW, np.float32(1 / 3000), out=signal_HW)
        return -np.log(signal_HW)

    def _colour(self, low_HW: Floats, ratio_HW: Floats) -> Bytes:
        tone_HW = (low_HW - np.float32(self.floor_attenuation)) * np.float32(_NUM_TONES / self.attenuation_stops[-1])
        np.clip(tone_HW, 0, _NUM_TONES - 1, out=tone_HW)
        hue_HW = np.clip((ratio_HW - 1) * np.float32(_NUM_RATIOS / (_MAX_RATIO - 1)), 0, _NUM_RATIOS - 1)
        index_HW = hue_HW.astype(np.int32)
        index_HW *= _NUM_TONES
        index_HW += tone_HW.astype(np.int32)
        pixels_HW3: Bytes = np.take(_colour_table(self), index_HW, axis=0)
        return pixels_HW3


@functools.cache
def load_scanners() -> Mapping[str, Scanner]:
    """Return every model of `scanners.json` by its name."""
    table = json.loads(resources.files("pipelines.phantom").joinpath("scanners.json").read_text())
    return {name: _make_scanner(name, row) for name, row in table.items()}


def encode_jpeg(pixels_HW3: Bytes) -> bytes:
    """Return a JPEG as the release has them: 8-bit baseline, 4:2:0, quality 75."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    return buffer.getvalue()


@functools.lru_cache(maxsize=8)
def _colour_table(scanner: Scanner) -> Bytes:
    # (ratios * tones, 3): interpolated once along both axes, so that a pixel costs one look-up
    attenuation = (np.arange(_NUM_TONES) + 0.5) * scanner.attenuation_stops[-1] / _NUM_TONES
    attenuation[0] = 0.0
    tones = np.interp(attenuation, scanner.attenuation_stops, scanner.tone_at_attenuation)
    colours = np.array(scanner.colours, dtype=np.float64)
    by_tone = np.stack(
        [[np.interp(tones, scanner.tone_stops, row[:, channel]) for channel in range(3)] for row in colours]
    )
    ratios = 1 + (np.arange(_NUM_RATIOS) + 0.5) * (_MAX_RATIO - 1) / _NUM_RATIOS
    place = np.interp(ratios, scanner.ratio_stops, np.arange(len(colours)))
    lower = np.minimum(place.astype(int), len(colours) - 2)
    weight = (place - lower)[:, None, None]
    mixed = by_tone[lower] * (1 - weight) + by_tone[lower + 1] * weight
    return np.ascontiguousarray(np.rint(mixed).astype(np.uint8).transpose(0, 2, 1).reshape(-1, 3))


def _estimate_ratio(low_HW: Floats, high_HW: Floats) -> Floats:
    # The material is estimated over 2 x 2 pixels and their neighbours: single pixels are too noisy for a ratio.
    height, width = low_HW.shape
    low_hw, high_hw = _blur(_halve(low_HW)), _blur(_halve(high_HW))
    ratio_hw = (low_hw + np.float32(0.004)) / np.maximum(high_hw + np.float32(0.0033), np.float32(0.003))
    return np.repeat(np.repeat(ratio_hw, 2, axis=0), 2, axis=1)[:height, :width]


def _halve(image_HW: Floats) -> Floats:
    height, width = image_HW.shape
    if height % 2 or width % 2:
        image_HW = np.pad(image_HW, ((0, height % 2), (0, width % 2)), mode="edge")
    rows_hW = image_HW[::2] + image_HW[1::2]
    return (rows_hW[:, ::2] + rows_hW[:, 1::2]) * np.float32(0.25)


def _blur(image_HW: Floats) -> Floats:
    padded = np.pad(image_HW, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1]
    rows += padded[2:]
    total = rows[:, :-2] + rows[:, 1:-1]
    total += rows[:, 2:]
    total *= np.float32(1 / 9)
    return total


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    # A window into one field of normal noise: drawing a million normals a scan would cost as much as all the rest.
    field = _noise_field()
    rows = (np.arange(shape[0]) + int(rng.integers(_NOISE_PX))) % _NOISE_PX
    columns = (np.arange(shape[1]) + int(rng.integers(_NOISE_PX))) % _NOISE_PX
    return field[rows][:, columns]


@functools.cache
def _noise_field() -> Floats:
    return np.random.default_rng(0).standard_normal((_NOISE_PX, _NOISE_PX), dtype=np.float32)


def _make_scanner(name: str, row: Mapping[str, Any]) -> Scanner:
    return Scanner(name=name, **{key: _freeze(value) for key, value in row.items()})


def _freeze(value: Any) -> Any:
    return tuple(_freeze(entry) for entry in value) if isinstance(value, list) else value
