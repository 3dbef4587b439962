"""Colour schemes: a mood gives hues of sky, land and ink; the seed moves them a little, so that films differ."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from curation.cartoonist.ink import Colour

# mood: (hue, saturation, value) of sky top, sky at the horizon, far land, near land, ground, foliage
_MOODS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "day": ((0.56, 0.48, 0.93), (0.50, 0.16, 0.98), (0.42, 0.28, 0.78), (0.28, 0.44, 0.76), (0.22, 0.46, 0.80),
            (0.33, 0.52, 0.55)),
    "dusk": ((0.72, 0.42, 0.62), (0.06, 0.46, 0.98), (0.80, 0.30, 0.58), (0.96, 0.34, 0.56), (0.08, 0.40, 0.66),
             (0.88, 0.38, 0.40)),
    "night": ((0.64, 0.66, 0.30), (0.58, 0.48, 0.52), (0.62, 0.44, 0.40), (0.52, 0.40, 0.38), (0.46, 0.36, 0.42),
              (0.48, 0.50, 0.27)),
    "winter": ((0.58, 0.24, 0.80), (0.10, 0.08, 0.97), (0.60, 0.18, 0.84), (0.57, 0.09, 0.92), (0.55, 0.05, 0.96),
               (0.45, 0.26, 0.50)),
    "autumn": ((0.52, 0.26, 0.88), (0.12, 0.24, 0.98), (0.07, 0.32, 0.76), (0.09, 0.52, 0.78), (0.11, 0.44, 0.76),
               (0.05, 0.66, 0.68)),
}
MOODS = tuple(_MOODS)


@dataclass(frozen=True, slots=True)
class Palette:
    sky_top: Colour
    sky_low: Colour
    far: Colour
    near: Colour
    ground: Colour
    foliage: Colour
    walls: tuple[Colour, Colour, Colour]
    roof: Colour
    wood: Colour
    accent: Colour
    light: Colour                          # of lit windows, moon and lettering
    ink: Colour
    is_dark: bool


def colour(hue: float, saturation: float, value: float) -> Colour:
    """RGB of hue (turns), saturation and value (0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def mix_palette(mood: str, rng: np.random.Generator) -> Palette:
    """The scheme of one mood, with hue, saturation and value moved by the generator."""
    turn = rng.uniform(-0.035, 0.035)

    def shade(hue: float, saturation: float, value: float) -> Colour:
        hue += turn + rng.uniform(-0.012, 0.012)
        return colour(hue, saturation * rng.uniform(0.85, 1.15), value * rng.uniform(0.95, 1.03))

    sky_top, sky_low, far, near, ground, foliage = (shade(*hsv) for hsv in _MOODS[mood])
    dim = {"night": 0.58, "dusk": 0.84}.get(mood, 1.0)
    base = rng.uniform()
    walls = (shade(base, 0.26, 0.93 * dim), shade(base + 0.38, 0.30, 0.86 * dim), shade(base + 0.62, 0.34, 0.80 * dim))
    return Palette(sky_top, sky_low, far, near, ground, foliage, walls,
                   roof=shade(rng.choice([0.01, 0.03, 0.58, 0.92]), 0.55, 0.68 * dim),
                   wood=shade(0.07, 0.48, 0.55 * dim),
                   accent=shade(rng.uniform(), 0.68, 0.90),
                   light=shade(0.13, 0.34, 1.0),
                   ink=colour(rng.uniform(0.6, 1.05), 0.30, 0.15),
                   is_dark=mood == "night")
