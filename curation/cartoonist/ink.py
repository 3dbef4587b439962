"""The pen: outlined, flat-coloured, antialiased shapes in world units; one unit is 1/270 of the picture's height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]                # [height, width, 3] RGB; painted layers carry a fourth channel
Colour = tuple[int, int, int]              # RGB, 0..255
Point = tuple[float, float]                # x to the right, y down
Points = Sequence[Point] | NDArray[np.float64]

WORLD_HEIGHT = 270.0                       # units from the top to the bottom of an unzoomed picture
_SHIFT = 4                                 # cv2 takes coordinates in 1/16 pixel
_CATMULL_ROM = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=np.float64)
_SOFT = np.vander(np.arange(6) / 6.0, 4, increasing=True) @ _CATMULL_ROM     # [6 steps, 4 corners]


@dataclass(frozen=True, slots=True)
class Camera:
    """What of the world is seen: left and top edge in units, and how many times closer than usual."""

    left: float = 0.0
    top: float = 0.0
    zoom: float = 1.0


@dataclass(slots=True)
class Pen:
    """Draws on `canvas` (3 or 4 channels) what `camera` sees of the world."""

    canvas: Picture
    ink: Colour = (38, 28, 36)             # of outlines
    line: float = 3.0                      # outline width in units
    camera: Camera = field(default_factory=Camera)
    pixels_per_unit: float = 0.0           # 0: the canvas is one picture high

    def __post_init__(self) -> None:
        if not self.pixels_per_unit:
            self.pixels_per_unit = self.canvas.shape[0] / WORLD_HEIGHT

    @property
    def scale(self) -> float:
        return self.pixels_per_unit * self.camera.zoom

    def shape(self, points: Points, colour: Colour, *, line: float | None = None) -> None:
        """Fills a polygon and outlines it; `line` 0 leaves the outline out."""
        pixels = self._pixels(points)
        cv2.fillPoly(self.canvas, [pixels], self._paint(colour), cv2.LINE_AA, _SHIFT)
        width = self.line if line is None else line
        if width > 0:
            cv2.polylines(self.canvas, [pixels], True, self._paint(self.ink), self._width(width), cv2.LINE_AA, _SHIFT)

    def blob(self, points: Points, colour: Colour, *, line: float | None = None) -> None:
        """A closed soft shape through `points`."""
        self.shape(soften(points), colour, line=line)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, *, line: float | None = None,
             turn: float = 0.0) -> None:
        """An ellipse around (x, y); `turn` in radians, clockwise."""
        self.shape(oval(x, y, rx, ry, turn), colour, line=line)

    def stroke(self, points: Points, colour: Colour | None = None, *, width: float | None = None) -> None:
        """An open line with round ends; ink and outline width unless told otherwise."""
        cv2.polylines(self.canvas, [self._pixels(points)], False, self._paint(colour or self.ink),
                      self._width(self.line if width is None else width), cv2.LINE_AA, _SHIFT)

    def limb(self, start: Point, bend: Point, end: Point, colour: Colour, width: float) -> None:
        """An outlined tube that bends towards `bend`: arms, legs, tails."""
        points = bow(start, bend, end)
        self.stroke(points, width=width + 1.7 * self.line)
        self.stroke(points, colour, width=width)

    def _paint(self, colour: Colour) -> tuple[int, ...]:
        return colour if self.canvas.shape[2] == 3 else (*colour, 255)

    def _width(self, width: float) -> int:
        return max(1, round(width * self.scale))

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        offset = (self.camera.left, self.camera.top)
        return np.rint((np.asarray(points, dtype=np.float64) - offset) * (self.scale * (1 << _SHIFT))).astype(np.int32)


def soften(points: Points) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through n points, six steps between two of them: [6 n, 2]."""
    given = np.asarray(points, dtype=np.float64)
    count = len(given)
    ring = np.concatenate((given[-1:], given, given[:2]))
    corners = np.stack([ring[shift:shift + count] for shift in range(4)], axis=1)              # [n, 4, 2]
    curve: NDArray[np.float64] = np.matmul(_SOFT, corners).reshape(-1, 2)
    return curve


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> list[Point]:
    """Points of an ellipse around (x, y), clockwise from its right end."""
    cosine, sine = math.cos(turn), math.sin(turn)
    ring = [(rx * math.cos(k * math.tau / 28), ry * math.sin(k * math.tau / 28)) for k in range(28)]
    return [(x + u * cosine - v * sine, y + u * sine + v * cosine) for u, v in ring]


def bow(start: Point, bend: Point, end: Point, steps: int = 8) -> list[Point]:
    """A quadratic curve from start to end, pulled towards `bend`."""
    spans = [k / steps for k in range(steps + 1)]
    return [((1 - t) ** 2 * start[0] + 2 * t * (1 - t) * bend[0] + t * t * end[0],
             (1 - t) ** 2 * start[1] + 2 * t * (1 - t) * bend[1] + t * t * end[1]) for t in spans]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` of `second` stirred in."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
