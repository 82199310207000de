"""Simulate a dual-energy line scanner: attenuation, noise, pseudo-colour, JPEG."""

# H, W pixels of the scan  h, w half as many  B the two pixels of a half

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

from pipelines.phantom.imaging.materials import load_materials
from pipelines.phantom.imaging.shapes import Floats, Part, Pose, render_part, trace_part

_NUM_TONES, _NUM_RATIOS = 1024, 96
_MAX_RATIO = 3.6
_FIELD_PX = 1024
_CLOTH_ATTENUATION = 0.03
_EMPTY = _NUM_RATIOS * _NUM_TONES
"""Row of the colour table for the empty belt."""


class Beam:
    """The attenuation of all objects at each pixel, at both energies (Beer-Lambert).

    Transmissions multiply, so attenuations add: the order of objects does not matter.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        # Rounded up to even sides: the material is estimated over 2 x 2 pixels.
        even = (height_px + height_px % 2, width_px + width_px % 2)
        self.low_HW: Floats = np.zeros(even, dtype=np.float32)
        """-log of the transmission at 60 keV."""
        self.high_HW: Floats = np.zeros(even, dtype=np.float32)
        """-log of the transmission at 100 keV."""

    def add(self, item: Iterable[Part], pose: Pose) -> None:
        """Add an item; what lies outside the scan is cut off."""
        for part in item:
            if part.outlines:
                self._add_body(part, pose)
            else:
                self._add_lines(part, pose)

    def _add_body(self, part: Part, pose: Pose) -> None:
        rendered = render_part(part, pose, *self.low_HW.shape[::-1])
        if rendered is None:
            return
        left, top, thickness_HW = rendered
        window = np.s_[top : top + thickness_HW.shape[0], left : left + thickness_HW.shape[1]]
        material = load_materials()[part.material]
        self.low_HW[window] += np.float32(material.low_per_cm) * thickness_HW
        thickness_HW *= np.float32(material.high_per_cm)
        self.high_HW[window] += thickness_HW

    def _add_lines(self, part: Part, pose: Pose) -> None:
        touched, thickness = trace_part(part, pose, *self.low_HW.shape[::-1])
        material = load_materials()[part.material]
        self.low_HW.reshape(-1)[touched] += np.float32(material.low_per_cm) * thickness
        self.high_HW.reshape(-1)[touched] += np.float32(material.high_per_cm) * thickness


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """A scanner model: detector and colours, measured on released scans."""

    name: str
    ratio_stops: tuple[float, ...]
    """Low over high attenuation at which `colours` has a row: organic, mixed, mineral, light metal, metal."""
    attenuation_stops: tuple[float, ...]
    tone_at_attenuation: tuple[tuple[float, ...], ...]
    """Brightness (0-255) at each of `attenuation_stops`, a row for each of `ratio_stops`."""
    tone_stops: tuple[float, ...]
    """Brightness at which `colours` has a column."""
    colours: tuple[tuple[tuple[int, int, int], ...], ...]
    noise_fraction: float
    """Standard deviation of the signal of the open beam; relative photon noise grows as 1/sqrt(signal)."""
    line_noise_fraction: float
    """The same for the gain of a detector line: faint bands along the belt."""
    scatter_fraction: float
    """Share of the open beam that reaches the detector behind any object: it limits contrast behind thick metal."""
    unevenness: float
    """Standard deviation of the texture that multiplies thickness."""
    noise_width: int
    """Correlation length of the noise along a line, in pixels."""
    crosstalk_fraction: float
    """Share of high-energy photons in the low detector's signal: thick metal looks like a lighter element."""
    floor_attenuation: float
    """Local mean attenuation below which a pixel is shown as empty belt."""
    sharpening: float
    """Weight of the unsharp mask on the attenuation that sets the brightness."""
    streaks: tuple[int, int]
    """Minimum and maximum number of miscalibrated detector lines in a scan."""

    def develop(self, beam: Beam, rng: np.random.Generator) -> Image.Image:
        """Return the pseudo-colour image of a beam."""
        gain_H1 = self._draw_line_gains(len(beam.low_HW), rng)
        grain_HW = _window(_grain_field(), beam.low_HW.shape, rng) * np.float32(-self.unevenness)
        grain_HW -= 1
        passed_low_HW, passed_high_HW = (
            np.exp(attenuation_HW * grain_HW) for attenuation_HW in (beam.low_HW, beam.high_HW)
        )
        passed_low_HW += np.float32(self.crosstalk_fraction) * (passed_high_HW - passed_low_HW)
        low_HW = self._detect(passed_low_HW, gain_H1, rng)
        high_HW = self._detect(passed_high_HW, gain_H1, rng)
        mean_low_hw, mean_high_hw = _blur(_halve(low_HW)), _blur(_halve(high_HW))
        low_HW += np.float32(self.sharpening) * (low_HW - _blur(low_HW))
        return self._colour(low_HW, mean_low_hw, mean_high_hw).crop((0, 0, beam.width_px, beam.height_px))

    def _draw_line_gains(self, num_lines: int, rng: np.random.Generator) -> Floats:
        gain_H = rng.normal(0, self.line_noise_fraction, num_lines)
        for _ in range(int(rng.integers(self.streaks[0], self.streaks[1] + 1))):
            gain_H[rng.integers(num_lines)] -= rng.uniform(0.02, 0.06)
        return (1 + gain_H).astype(np.float32)[:, None]

    def _detect(self, passed_HW: Floats, gain_H1: Floats, rng: np.random.Generator) -> Floats:
        """Return the attenuation measured for a transmitted fraction of the beam."""
        signal_HW = passed_HW
        signal_HW += np.float32(self.scatter_fraction)
        noise_HW = np.sqrt(signal_HW)
        noise_HW *= _window(_noise_field(self.noise_width), signal_HW.shape, rng)
        noise_HW *= np.float32(self.noise_fraction)
        signal_HW += noise_HW
        signal_HW *= gain_H1
        # The detector resolves one part in 3,000; without this bound zero signal gives infinite attenuation.
        np.maximum(signal_HW, np.float32(1 / 3000), out=signal_HW)
        np.log(signal_HW, out=signal_HW)
        return np.negative(signal_HW, out=signal_HW)

    def _colour(self, low_HW: Floats, mean_low_hw: Floats, mean_high_hw: Floats) -> Image.Image:
        # The material is estimated over 2 x 2 pixels and their neighbours: single pixels are too noisy for a ratio.
        # At low attenuation the ratio tends to that of cloth.
        hue_hw = mean_low_hw + np.float32(1.38 * _CLOTH_ATTENUATION)
        hue_hw /= np.maximum(mean_high_hw, 0) + np.float32(_CLOTH_ATTENUATION)
        hue_hw -= 1
        hue_hw *= np.float32(_NUM_RATIOS / (_MAX_RATIO - 1))
        row_hw = np.clip(hue_hw, 0, _NUM_RATIOS - 1).astype(np.int32) * _NUM_TONES
        row_hw[mean_low_hw < self.floor_attenuation] = _EMPTY
        tone_HW = low_HW * np.float32(_NUM_TONES / self.attenuation_stops[-1])
        np.clip(tone_HW, 0, _NUM_TONES - 1, out=tone_HW)
        height, width = tone_HW.shape
        index_hBwB = tone_HW.astype(np.int32).reshape(height // 2, 2, width // 2, 2)
        index_hBwB += row_hw[:, None, :, None]
        # Four bytes a pixel: one lookup instead of three.
        packed_HW = _colour_table(self)[index_hBwB.reshape(height, width)]
        return Image.frombuffer("RGBX", (width, height), packed_HW, "raw", "RGBX", 0, 1).convert("RGB")


@functools.cache
def load_scanners() -> Mapping[str, Scanner]:
    """Return the scanners of `scanners.json` by name."""
    table = json.loads(resources.files("pipelines.phantom.imaging").joinpath("scanners.json").read_text())
    return {name: _make_scanner(name, row) for name, row in table.items()}


def encode_jpeg(picture: Image.Image) -> bytes:
    """Return a JPEG encoded like the release (8-bit baseline, 4:2:0, quality 75), with a comment that says what it is.

    Reports look for the comment: figures of generated scans say nothing of real ones.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75, subsampling="4:2:0", comment=b"Generated by sixray synth")
    return buffer.getvalue()


@functools.lru_cache(maxsize=8)
def _colour_table(scanner: Scanner) -> npt.NDArray[np.uint32]:
    # (ratios * tones + tones) entries, RGB in the first three bytes; computed once, so that a pixel costs one lookup.
    attenuation = (np.arange(_NUM_TONES) + 0.5) * scanner.attenuation_stops[-1] / _NUM_TONES
    attenuation[0] = 0.0
    colours = np.array(scanner.colours, dtype=np.float64)
    tones = [np.interp(attenuation, scanner.attenuation_stops, row) for row in scanner.tone_at_attenuation]
    by_tone = np.stack(
        [
            [np.interp(tone, scanner.tone_stops, row[:, channel]) for channel in range(3)]
            for row, tone in zip(colours, tones, strict=True)
        ]
    )
    ratios = 1 + (np.arange(_NUM_RATIOS) + 0.5) * (_MAX_RATIO - 1) / _NUM_RATIOS
    place = np.interp(ratios, scanner.ratio_stops, np.arange(len(colours)))
    lower = np.minimum(place.astype(int), len(colours) - 2)
    weight = (place - lower)[:, None, None]
    mixed = by_tone[lower] * (1 - weight) + by_tone[lower + 1] * weight
    empty = np.broadcast_to(by_tone[:1, :, :1], (1, 3, _NUM_TONES))
    table = np.concatenate([mixed, empty]).transpose(0, 2, 1).reshape(-1, 3)
    padded = np.pad(np.rint(table).astype(np.uint8), ((0, 0), (0, 1)))
    return np.ascontiguousarray(padded).view(np.uint32)[:, 0]


def _halve(image_HW: Floats) -> Floats:
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


def _window(field: Floats, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    # A random window of one noise field: drawing a million normals would double the time of a scan.
    top, left = (int(start) for start in rng.integers(_FIELD_PX, size=2))
    height, width = shape
    if height > _FIELD_PX or width > _FIELD_PX:
        field = np.tile(field, (height // _FIELD_PX + 1, width // _FIELD_PX + 1))
    return field[top : top + height, left : left + width]


@functools.cache
def _noise_field(width: int) -> Floats:
    """Return noise of unit variance: mostly per pixel, some in patches (amplifier drift)."""
    rng = np.random.default_rng(0)
    fine = _smear(rng.standard_normal((_FIELD_PX, _FIELD_PX), dtype=np.float32), width)
    return np.tile(_unit(_unit(fine) + np.float32(0.25) * _patches(rng, 10)), (2, 2))


@functools.cache
def _grain_field() -> Floats:
    """Return texture of unit variance at three scales: threads, folds, fillings."""
    rng = np.random.default_rng(1)
    fine = _smear(rng.standard_normal((_FIELD_PX, _FIELD_PX), dtype=np.float32), 2)
    grain = _unit(_unit(fine) + _patches(rng, 4) + np.float32(0.8) * _patches(rng, 16))
    return np.tile(np.clip(grain, -3, 3), (2, 2))


def _patches(rng: np.random.Generator, size_px: int) -> Floats:
    coarse = rng.standard_normal((_FIELD_PX // size_px + 1,) * 2, dtype=np.float32)
    stretched = Image.fromarray(coarse).resize((_FIELD_PX, _FIELD_PX), Image.Resampling.BICUBIC)
    return _unit(np.array(stretched))


def _smear(field: Floats, width: int) -> Floats:
    total = field.copy()
    for shift in range(1, width):
        total += np.roll(field, shift, axis=1)
    return total


def _unit(field: Floats) -> Floats:
    unit: Floats = (field - field.mean()) / field.std()
    return unit


def _make_scanner(name: str, row: Mapping[str, Any]) -> Scanner:
    return Scanner(name=name, **{key: _freeze(value) for key, value in row.items()})


def _freeze(value: Any) -> Any:
    return tuple(_freeze(entry) for entry in value) if isinstance(value, list) else value
