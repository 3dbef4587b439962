"""Painted places: gradients, brush strokes and scenery on layers wider than the picture, for a camera to travel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.cartoonist.ink import WORLD_HEIGHT, Camera, Colour, Pen, Picture, Point, mix
from curation.cartoonist.palettes import Palette

PLACES = ("meadow", "harbour", "town", "forest", "room")
SPAN = 2.1                                 # painted width over visible width
_MARGIN = 14.0                             # units painted above and below the picture
_DETAIL = 1.25                             # painted pixels per picture pixel, so that zooming in stays sharp


@dataclass(frozen=True, slots=True)
class _Layer:
    rgb: Picture                           # [painted height, painted width, 3]
    alpha: NDArray[np.uint8] | None        # None: covers everything
    depth: float                           # travels `depth` as fast as the camera


@dataclass(frozen=True)
class Place:
    """A painting of several layers. World x runs from 0 to `width`, the ground lies near y = 240."""

    layers: tuple[_Layer, ...]
    palette: Palette
    size: tuple[int, int]                  # width and height of the picture in pixels
    width: float                           # units painted

    @cached_property
    def flat(self) -> Picture:
        """All layers as one painting, for cameras that see no depth."""
        picture = self.layers[0].rgb.copy()
        for layer in self.layers[1:]:
            _cover(picture, layer.rgb, layer.alpha)
        return picture

    def view(self, camera: Camera, *, parallax: bool = False) -> Picture:
        """What the camera sees, [height, width, 3]."""
        if not parallax:
            return self._crop(self.flat, camera)
        picture = self._crop(self.layers[0].rgb, _slowed(camera, self.layers[0].depth))
        for layer in self.layers[1:]:
            slowed = _slowed(camera, layer.depth)
            assert layer.alpha is not None
            _cover(picture, self._crop(layer.rgb, slowed), self._crop(layer.alpha, slowed))
        return picture

    def _crop(self, painting: NDArray[np.uint8], camera: Camera) -> Picture:
        painted = _DETAIL * self.size[1] / WORLD_HEIGHT
        step = _DETAIL / camera.zoom
        matrix = np.array([[step, 0, camera.left * painted], [0, step, (camera.top + _MARGIN) * painted]])
        return cv2.warpAffine(painting, matrix, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                              borderMode=cv2.BORDER_REFLECT).astype(np.uint8, copy=False)


def paint(kind: str, palette: Palette, rng: np.random.Generator, size: tuple[int, int]) -> Place:
    """Paints one of PLACES for pictures of `size` (width, height)."""
    width = SPAN * WORLD_HEIGHT * size[0] / size[1]
    easel = _Easel(palette, rng, size, width)
    {"meadow": easel.meadow, "harbour": easel.harbour, "town": easel.town, "forest": easel.forest,
     "room": easel.room}[kind]()
    return Place(tuple(easel.layers), palette, size, width)


def _slowed(camera: Camera, depth: float) -> Camera:
    return Camera(camera.left * depth, camera.top, camera.zoom)


def _cover(picture: Picture, paint_on: Picture, alpha: NDArray[np.uint8] | None) -> None:
    if alpha is None:
        picture[:] = paint_on
        return
    share = alpha.astype(np.float32) / 255.0
    picture[:] = cv2.blendLinear(paint_on, picture, share, 1.0 - share)


class _Easel:
    """One painting under way: layers are begun, drawn on with the pen, textured and put away."""

    def __init__(self, palette: Palette, rng: np.random.Generator, size: tuple[int, int], width: float) -> None:
        self.palette, self.rng, self.width = palette, rng, width
        self.scale = _DETAIL * size[1] / WORLD_HEIGHT
        self.shape = (round((WORLD_HEIGHT + 2 * _MARGIN) * self.scale), round(width * self.scale))
        self.layers: list[_Layer] = []
        self.strokes = self._brush_work()

    # Layers

    def begin(self, base: Colour) -> Pen:
        canvas = np.empty((*self.shape, 4), np.uint8)
        canvas[:] = (*base, 0)
        return Pen(canvas, mix(base, self.palette.ink, 0.55), 1.6, Camera(0.0, -_MARGIN), self.scale)

    def finish(self, pen: Pen, depth: float, roughness: float = 1.0) -> None:
        texture = np.roll(self.strokes, int(self.rng.integers(self.shape[1])), axis=1)[..., None]
        rgb = np.clip(pen.canvas[..., :3] + texture * roughness, 0, 255).astype(np.uint8)
        alpha = None if not self.layers else np.ascontiguousarray(pen.canvas[..., 3])
        self.layers.append(_Layer(np.ascontiguousarray(rgb), alpha, depth))

    def _brush_work(self) -> NDArray[np.float32]:
        """Lighter and darker strokes plus grain, around 0, about +-14 levels."""
        height, width = self.shape
        canvas = np.full(self.shape, 128, np.uint8)
        count = round(0.9 * self.width)
        xs, ys = self.rng.uniform(0, width, count), self.rng.uniform(0, height, count)
        lengths, leans = self.rng.uniform(10, 46, count) * self.scale, self.rng.normal(0.0, 0.35, count)
        levels, widths = self.rng.normal(128, 11, count), self.rng.uniform(2, 8, count) * self.scale
        for x, y, length, lean, level, thick in zip(xs, ys, lengths, leans, levels, widths, strict=True):
            end = (round(x + length * math.cos(lean)), round(y + length * math.sin(lean)))
            cv2.line(canvas, (round(x), round(y)), end, int(np.clip(level, 90, 166)), max(1, round(thick)), cv2.LINE_AA)
        soft = cv2.GaussianBlur(canvas, (0, 0), 0.9 * self.scale).astype(np.float32) - 128.0
        grain = cv2.GaussianBlur(self.rng.standard_normal(self.shape).astype(np.float32), (0, 0), 0.8 * self.scale)
        return soft + grain * 7.0

    def sky(self, *, clouds: int) -> None:
        palette, rng = self.palette, self.rng
        pen = self.begin(palette.sky_low)
        rows = np.linspace(0.0, 1.35, self.shape[0]).clip(0, 1)[:, None]
        pen.canvas[..., :3] = (np.array(palette.sky_top) * (1 - rows) + np.array(palette.sky_low) * rows)[:, None]
        if palette.is_dark:
            for _ in range(90):
                radius = rng.uniform(0.5, 1.4)
                pen.oval(rng.uniform(0, self.width), rng.uniform(-10, 130), radius, radius, palette.light, line=0)
        x = rng.uniform(0.15, 0.4) * self.width
        disc = palette.light if palette.is_dark else mix(palette.light, (255, 255, 255), 0.3)
        pen.oval(x, 48, 34, 34, mix(palette.sky_low, disc, 0.4), line=0)
        pen.oval(x, 48, 22, 22, disc, line=0)
        for _ in range(clouds):
            self._cloud(pen, rng.uniform(0, self.width), rng.uniform(18, 95), rng.uniform(0.6, 1.4))
        self.finish(pen, 0.12, 0.6)

    def _cloud(self, pen: Pen, x: float, y: float, size: float) -> None:
        white = mix(self.palette.sky_low, (255, 255, 255), 0.25 if self.palette.is_dark else 0.75)
        puffs = [(self.rng.uniform(-34, 34), self.rng.uniform(-9, 5), self.rng.uniform(11, 21)) for _ in range(6)]
        for shade, drop in ((mix(white, self.palette.sky_top, 0.3), 4.0), (white, 0.0)):
            for dx, dy, radius in puffs:
                pen.oval(x + dx * size, y + (dy + drop) * size, radius * 1.4 * size, radius * 0.75 * size, shade,
                         line=0)

    def hills(self, base: Colour, top: float, height: float, depth: float, *, trees: int = 0,
              waves: float = 260.0) -> Pen:
        """A rolling ridge from `top`, returned open so that more can be put on it."""
        rng = self.rng
        pen = self.begin(base)
        phases = rng.uniform(0, math.tau, 3)

        def ridge(x: float) -> float:
            return top - height * sum(math.sin(x * math.tau / (waves * ratio) + phase) * weight
                                      for ratio, phase,
                                      weight in zip((1.0, 0.43, 0.19), phases, (0.6, 0.28, 0.1), strict=True))

        outline: list[Point] = [(x, ridge(x)) for x in np.arange(-8.0, self.width + 16, 8.0)]
        pen.shape([*outline, (self.width + 20, 300), (-20, 300)], base, line=0)
        for shift, share in ((9.0, 0.10), (26.0, 0.07), (52.0, 0.07)):
            base = mix(base, self.palette.ink, share)
            pen.shape([*[(x, y + shift + 4 * math.sin(x / 31.0 + shift)) for x, y in outline], (self.width + 20, 300),
                       (-20, 300)],
                      base, line=0)
        for x in np.sort(rng.uniform(0, self.width, trees)):
            self._tree(pen, float(x), ridge(float(x)) + 8, rng.uniform(0.5, 1.0) * depth**0.5)
        return pen

    def _tree(self, pen: Pen, x: float, y: float, size: float) -> None:
        palette, rng = self.palette, self.rng
        leaf = mix(palette.foliage, palette.near, rng.uniform(0.0, 0.35))
        pen.shape([(x - 4 * size, y), (x - 3 * size, y - 40 * size), (x + 3 * size, y - 40 * size),
                   (x + 5 * size, y)], palette.wood, line=0.8)
        if rng.uniform() < 0.4:
            for k in range(3):
                half, foot = (30 - 7 * k) * size, y - (22 + 24 * k) * size
                pen.shape([(x - half, foot), (x, foot - 42 * size), (x + half, foot)],
                          mix(leaf, palette.light, 0.07 * k), line=0.8)
            return
        for shade, shift in ((mix(leaf, palette.ink, 0.22), 4.0), (leaf, 0.0), (mix(leaf, palette.light, 0.18), -9.0)):
            for _ in range(5):
                pen.oval(x + rng.uniform(-17, 17) * size + shift * 0.5, y + (rng.uniform(-78, -46) + shift) * size,
                         rng.uniform(11, 19) * size, rng.uniform(9, 15) * size, shade, line=0)

    # Places

    def meadow(self) -> None:
        palette, rng = self.palette, self.rng
        self.sky(clouds=9)
        self.finish(self.hills(palette.far, 150, 26, 0.3), 0.3)
        self.finish(self.hills(palette.near, 188, 15, 0.6, trees=9), 0.6)
        pen = self.hills(palette.ground, 218, 5, 1.0, trees=0, waves=420)
        for _ in range(3):
            self._tree(pen, rng.uniform(0, self.width), 232, rng.uniform(1.5, 2.2))
        self._fence(pen, rng.uniform(0, self.width * 0.6))
        self._tufts(pen, 150)
        self.finish(pen, 1.0)

    def harbour(self) -> None:
        palette, rng = self.palette, self.rng
        self.sky(clouds=7)
        self.finish(self.hills(palette.far, 142, 18, 0.3), 0.3)
        water = mix(palette.sky_top, palette.foliage, 0.25)
        pen = self.begin(water)
        pen.shape([(-10, 158), (self.width + 10, 158), (self.width + 10, 300), (-10, 300)], water, line=0)
        for _ in range(150):
            x, y = rng.uniform(0, self.width), rng.uniform(162, 240)
            pen.stroke([(x, y), (x + rng.uniform(8, 38), y + rng.uniform(-1, 1))],
                       mix(water, palette.light, rng.uniform(0.1, 0.5)), width=1.6)
        x = rng.uniform(0.5, 0.9) * self.width
        pen.blob([(x - 60, 160), (x - 30, 148), (x + 26, 146), (x + 64, 160)], mix(palette.wood, palette.ink, 0.3),
                 line=0.8)
        for k in range(5):
            band = palette.roof if k % 2 else mix(palette.walls[0], (255, 255, 255), 0.5)
            pen.shape([(x - 13 + k, 150 - 17 * k), (x - 12 + k, 133 - 17 * k), (x + 12 - k, 133 - 17 * k),
                       (x + 13 - k, 150 - 17 * k)], band, line=1)
        pen.shape([(x - 10, 65), (x, 50), (x + 10, 65)], palette.roof, line=1)
        self.finish(pen, 0.5)
        quay = mix(palette.ground, palette.wood, 0.45)
        pen = self.begin(quay)
        pen.shape([(-10, 226), (self.width + 10, 226), (self.width + 10, 300), (-10, 300)], quay, line=1.5)
        for x in np.arange(0, self.width, 34.0):
            pen.stroke([(x, 228), (x - 14, 290)], mix(quay, palette.ink, 0.35), width=1.4)
        for x in rng.uniform(0, self.width, 6):
            pen.shape([(x - 7, 232), (x - 6, 208), (x + 6, 208), (x + 7, 232)], mix(palette.wood, palette.ink, 0.25),
                      line=1.6)
            pen.oval(x, 208, 9, 4, palette.wood, line=1.6)
        for x in rng.uniform(0, self.width, 4):
            self._crate(pen, x, 228)
        self.finish(pen, 1.0)

    def town(self) -> None:
        palette, rng = self.palette, self.rng
        self.sky(clouds=6)
        self.finish(self.hills(palette.far, 140, 24, 0.3, trees=8), 0.3)
        for depth, base, size in ((0.62, 204.0, 0.72), (1.0, 226.0, 1.0)):
            street = mix(palette.ground, palette.walls[1], 0.4)
            pen = self.begin(street)
            pen.shape([(-10, base), (self.width + 10, base), (self.width + 10, 300), (-10, 300)], street, line=0)
            x = rng.uniform(-30, 0)
            while x < self.width:
                wide = rng.uniform(72, 108) * size
                if rng.uniform() < 0.68:
                    self._house(pen, x, base, wide, rng.uniform(76, 128) * size)
                else:
                    self._tree(pen, x + wide / 2, base + 2, 1.5 * size)
                x += wide + rng.uniform(4, 26) * size
            if depth == 1.0:
                pen.shape([(-10, 230), (self.width + 10, 230), (self.width + 10, 236), (-10, 236)],
                          mix(street, palette.ink, 0.25), line=0)
                for x in rng.uniform(0, self.width, 60):
                    y = rng.uniform(242, 268)
                    pen.stroke([(x, y), (x + rng.uniform(6, 16), y)], mix(street, palette.ink, 0.2), width=1.4)
            self.finish(pen, depth)

    def forest(self) -> None:
        palette, rng = self.palette, self.rng
        self.sky(clouds=3)
        self.finish(self.hills(mix(palette.foliage, palette.sky_low, 0.55), 120, 20, 0.25, trees=16), 0.25)
        self.finish(self.hills(mix(palette.foliage, palette.near, 0.5), 176, 16, 0.55, trees=22), 0.55)
        pen = self.hills(palette.ground, 222, 4, 1.0, waves=380)
        for x in np.arange(20, self.width, 120.0) + rng.uniform(-34, 34, len(np.arange(20, self.width, 120.0))):
            bark, half = mix(palette.wood, palette.ink, rng.uniform(0.05, 0.35)), rng.uniform(9, 17)
            pen.blob([(x - half * 1.7, 234), (x - half, 205), (x - half * 0.8, 60), (x - half, -30), (x + half, -30),
                      (x + half * 0.8, 60),
                      (x + half, 205), (x + half * 1.8, 234)], bark, line=1.6)
            for y in rng.uniform(10, 200, 7):
                pen.stroke([(x - half * 0.4, y), (x + rng.uniform(-3, half * 0.5), y + rng.uniform(8, 20))],
                           mix(bark, palette.ink, 0.4), width=1.6)
        for x in rng.uniform(0, self.width, 14):
            y = rng.uniform(228, 250)
            pen.stroke([(x, y), (x, y - 8)], mix(palette.light, (255, 255, 255), 0.4), width=4)
            pen.blob([(x - 9, y - 7), (x, y - 16), (x + 9, y - 7), (x, y - 6)], palette.accent, line=1.2)
        self._tufts(pen, 190)
        self.finish(pen, 1.0)

    def room(self) -> None:
        palette, rng = self.palette, self.rng
        wall, floor = palette.walls[0], mix(palette.wood, palette.walls[1], 0.3)
        pen = self.begin(wall)
        pen.canvas[..., :3] = wall
        for k, x in enumerate(np.arange(0, self.width, 17.0)):
            pen.stroke([(x, -20), (x, 200)], mix(wall, palette.walls[1], 0.35 if k % 2 else 0.18), width=7 if k % 2
                       else 2)
        self.finish(pen, 0.9, 0.7)
        pen = self.begin(floor)
        pen.shape([(-10, 205), (self.width + 10, 205), (self.width + 10, 300), (-10, 300)], floor, line=0)
        pen.shape([(-10, 196), (self.width + 10, 196), (self.width + 10, 207), (-10, 207)],
                  mix(palette.wood, palette.light, 0.35), line=1.4)
        for y in (216, 230, 248):
            pen.stroke([(-10, y), (self.width + 10, y)], mix(floor, palette.ink, 0.3), width=1.2)
        x = rng.uniform(20, 60)
        things = [self._window, self._picture, self._shelf, self._lamp, self._picture, self._window, self._shelf]
        while x < self.width:
            things[int(rng.integers(len(things)))](pen, x)
            x += rng.uniform(96, 140)
        self.finish(pen, 1.0)

    # Things

    def _fence(self, pen: Pen, start: float) -> None:
        wood = mix(self.palette.wood, (255, 255, 255), 0.35)
        for y in (206, 219):
            pen.stroke([(start, y), (start + 230, y + 2)], wood, width=4)
        for k in range(12):
            x = start + 4 + k * 20
            pen.shape([(x - 4, 234), (x - 4, 200), (x, 194), (x + 4, 200), (x + 4, 234)], wood, line=1.2)

    def _tufts(self, pen: Pen, count: int) -> None:
        for x, y in zip(self.rng.uniform(0, self.width, count), self.rng.uniform(229, 280, count), strict=True):
            shade = mix(self.palette.ground, self.palette.foliage, self.rng.uniform(0.25, 0.8))
            for lean in (-4, 0, 4):
                pen.stroke([(x, y), (x + lean, y - self.rng.uniform(4, 9))], shade, width=1.5)

    def _crate(self, pen: Pen, x: float, y: float) -> None:
        side, wood = self.rng.uniform(24, 38), mix(self.palette.wood, self.palette.light, 0.25)
        pen.shape([(x, y), (x, y - side), (x + side, y - side), (x + side, y)], wood, line=2)
        pen.stroke([(x, y), (x + side, y - side)], width=2)
        pen.stroke([(x, y - side), (x + side, y)], width=2)

    def _house(self, pen: Pen, x: float, y: float, wide: float, high: float) -> None:
        palette, rng = self.palette, self.rng
        wall = palette.walls[rng.integers(3)]
        pen.shape([(x, y), (x, y - high), (x + wide, y - high), (x + wide, y)], wall, line=1.6)
        pen.shape([(x - 6, y - high), (x + wide / 2, y - high - rng.uniform(24, 48)), (x + wide + 6, y - high)],
                  mix(palette.roof, palette.wood, rng.uniform(0, 0.5)), line=1.6)
        glass = palette.light if palette.is_dark else mix(palette.sky_top, (255, 255, 255), 0.4)
        for row in range(int(high // 40)):
            for column in (0.22, 0.66):
                self._pane(pen, x + wide * column, y - high + 14 + row * 38, 15, 20, glass)
        pen.shape([(x + wide * 0.42, y), (x + wide * 0.42, y - 28), (x + wide * 0.62, y - 28), (x + wide * 0.62, y)],
                  palette.wood, line=1.6)

    def _pane(self, pen: Pen, x: float, y: float, wide: float, high: float, glass: Colour) -> None:
        pen.shape([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)], glass, line=1.8)
        pen.stroke([(x + wide / 2, y), (x + wide / 2, y + high)], width=1.2)
        pen.stroke([(x, y + high / 2), (x + wide, y + high / 2)], width=1.2)

    def _window(self, pen: Pen, x: float) -> None:
        self._pane(pen, x, 50, 74, 84, self.palette.sky_low)
        for side in (-10, 66):
            pen.blob([(x + side, 44), (x + side + 18, 44), (x + side + 14, 140), (x + side + 3, 144)],
                     self.palette.accent, line=1.4)

    def _picture(self, pen: Pen, x: float) -> None:
        y = self.rng.uniform(48, 80)
        pen.shape([(x, y), (x + 56, y), (x + 56, y + 42), (x, y + 42)], self.palette.wood, line=1.6)
        pen.shape([(x + 5, y + 5), (x + 51, y + 5), (x + 51, y + 37), (x + 5, y + 37)], self.palette.sky_low, line=1)
        pen.shape([(x + 5, y + 37), (x + 20, y + 16), (x + 32, y + 28), (x + 42, y + 20), (x + 51, y + 37)],
                  self.palette.foliage, line=1)

    def _shelf(self, pen: Pen, x: float) -> None:
        pen.shape([(x, 205), (x, 92), (x + 78, 92), (x + 78, 205)], self.palette.wood, line=1.8)
        for y in (102, 138, 172):
            pen.shape([(x + 5, y + 28), (x + 5, y - 4), (x + 73, y - 4), (x + 73, y + 28)],
                      mix(self.palette.wood, self.palette.ink, 0.4), line=1)
            book = x + 8
            while book < x + 64:
                wide = self.rng.uniform(5, 10)
                shade = (*self.palette.walls, self.palette.accent, self.palette.roof)[self.rng.integers(5)]
                pen.shape([(book, y + 28), (book, y + self.rng.uniform(0, 8)), (book + wide, y + 2),
                           (book + wide, y + 28)], shade, line=0.8)
                book += wide

    def _lamp(self, pen: Pen, x: float) -> None:
        pen.stroke([(x + 20, 206), (x + 20, 112)], self.palette.wood, width=4)
        pen.oval(x + 20, 208, 17, 4, self.palette.wood, line=1.4)
        pen.shape([(x + 2, 114), (x + 10, 82), (x + 30, 82), (x + 38, 114)], self.palette.light, line=1.6)
