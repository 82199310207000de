"""Compute the X-ray attenuation of materials at two energies."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Material:
    """The attenuation of a homogeneous material."""

    name: str
    low_per_cm: float
    """Linear attenuation at 60 keV; `exp(-low_per_cm * thickness_cm)` is the transmission."""
    high_per_cm: float
    """The same at 100 keV."""

    @property
    def ratio(self) -> float:
        """Low over high attenuation: grows with the atomic number, independent of thickness."""
        return self.low_per_cm / self.high_per_cm


@functools.cache
def load_materials() -> Mapping[str, Material]:
    """Return the materials of `materials.json` by name."""
    elements = _load_table("elements.json")
    table = _load_table("materials.json")
    return {name: mix_elements(name, row["density"], row["mass_fractions"], elements) for name, row in table.items()}


def mix_elements(
    name: str, density: float, mass_fractions: Mapping[str, float], elements: Mapping[str, Any]
) -> Material:
    """Return a mixture: mass attenuations add in proportion to mass.

    Args:
        name: of the material.
        density: g/cm3.
        mass_fractions: by element symbol; they add up to 1.
        elements: `low` and `high` mass attenuation in cm2/g by element symbol.

    Raises:
        ValueError: the fractions do not add up to 1, or an element is not in the table.
    """
    total = sum(mass_fractions.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"mass fractions must add up to 1, got {total:.6g} (material {name!r})")
    if unknown := sorted(set(mass_fractions) - set(elements)):
        raise ValueError(f"element must be one of {sorted(elements)}, got {unknown} (material {name!r})")
    low, high = (
        density * sum(fraction * elements[symbol][energy] for symbol, fraction in mass_fractions.items())
        for energy in ("low", "high")
    )
    return Material(name, low, high)


def _load_table(name: str) -> dict[str, Any]:
    table = json.loads(resources.files("pipelines.phantom.imaging").joinpath(name).read_text())
    table.pop("source", None)
    return dict(table)
