"""Draw an item of a prohibited class; list the subtypes of each class."""

from collections.abc import Callable, Mapping

import numpy as np

from pipelines.phantom.imaging.shapes import Item
from pipelines.phantom.items import blades, guns, tools

Rng = np.random.Generator
Maker = Callable[[Rng], Item]


def make_threat(name: str, rng: Rng) -> Item:
    """Return a random item of a class, centred at the origin; ValueError for an unknown class."""
    if name not in THREATS:
        raise ValueError(f"class must be one of {sorted(THREATS)}, got {name!r}")
    makers = THREATS[name]
    return makers[int(rng.integers(len(makers)))](rng)


THREATS: Mapping[str, tuple[Maker, ...]] = {
    "Gun": (guns.pistol, guns.pistol, guns.luger, guns.revolver, guns.revolver),
    "Knife": (
        blades.kitchen_knife,
        blades.kitchen_knife,
        blades.cleaver,
        blades.dagger,
        blades.folding_knife,
        blades.butterfly_knife,
    ),
    "Wrench": (tools.open_end_wrench, tools.combination_wrench, tools.ring_wrench, tools.adjustable_wrench),
    "Pliers": (tools.combination_pliers, tools.needle_nose_pliers, tools.cutting_pliers, tools.slip_joint_pliers),
    "Scissors": (blades.household_scissors, blades.metal_scissors, blades.shears),
    "Hammer": (tools.claw_hammer, tools.ball_hammer, tools.mallet),
}
"""Subtypes of each class; one listed twice is twice as likely."""
