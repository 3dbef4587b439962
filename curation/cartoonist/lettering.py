"""Everything that is written into a film: titles, credits and subtitles, in OpenCV's built-in scalable typeface."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.cartoonist.ink import WORLD_HEIGHT, Colour, Pen, Picture

_FACE = "sans"
_LIGHT, _BOLD = 400, 800                   # weights the typeface knows

Box = tuple[int, int, int, int]            # x, y, width, height in pixels of the picture


@dataclass(frozen=True, slots=True)
class Line:
    """One line of writing, centred on x. Position and height in units of the picture, whatever the camera does."""

    text: str
    x: float
    base: float                            # y of the line the letters stand on
    height: float                          # type size
    colour: Colour = (250, 246, 232)
    edge: Colour | None = (24, 18, 26)     # dark rim for legibility; None: no rim
    is_bold: bool = True

    def draw(self, pen: Pen) -> None:
        letters, rim, (left, top, width, height) = self._place(pen.canvas)
        if width <= 0 or height <= 0:
            return
        patch = pen.canvas[top:top + height, left:left + width]
        if self.edge is not None:
            patch[:] = _tint(patch, rim, self.edge)
        patch[:] = _tint(patch, letters, self.colour)

    def box(self, canvas: Picture) -> Box:
        """The part of the picture it covers; empty where it lies outside."""
        return self._place(canvas)[2]

    def _place(self, canvas: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32], Box]:
        scale = canvas.shape[0] / WORLD_HEIGHT
        letters, rim, baseline = _stencil(self.text, max(6, round(self.height * scale)),
                                          _BOLD if self.is_bold else _LIGHT, max(1, round(0.09 * self.height * scale)))
        left, top = round(self.x * scale) - letters.shape[1] // 2, round(self.base * scale) - baseline
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + letters.shape[1], canvas.shape[1]), min(top + letters.shape[0], canvas.shape[0])
        window = (slice(y0 - top, max(y1 - top, 0)), slice(x0 - left, max(x1 - left, 0)))
        return letters[window], rim[window], (x0, y0, max(x1 - x0, 0), max(y1 - y0, 0))


def text_share(lines: tuple[Line, ...], canvas: Picture) -> float:
    """Share of the picture that the lines' boxes cover, in [0, 1]; lines are taken not to overlap."""
    return sum(width * height for _, _, width, height in (line.box(canvas)
                                                          for line in lines)) / (canvas.shape[0] * canvas.shape[1])


def subtitle(text: str, width: float, *, size: float = 16.0) -> tuple[Line, ...]:
    """Two balanced lines at the foot of a picture `width` units wide."""
    words = text.split()
    half = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - len(" ".join(words[k:]))))
    return tuple(Line(" ".join(part), width / 2, 242.0 + row * size * 1.18, size)
                 for row, part in enumerate((words[:half], words[half:])))


@lru_cache(maxsize=256)
def _stencil(text: str, size: int, weight: int, rim_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Letters and their rim as shares in [0, 1], cropped to the rim, and the row of the baseline."""
    face = cv2.FontFace(_FACE)
    margin = rim_px + 2
    canvas = np.zeros((size * 2 + 2 * margin, size * max(len(text), 1) + 2 * margin, 3), np.uint8)
    base = round(size * 1.3) + margin
    cv2.putText(canvas, text, (margin, base), (255, 255, 255), face, size, weight)
    letters = canvas[..., 0]
    rim = cv2.dilate(letters, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim_px + 1, 2 * rim_px + 1)))
    x, y, width, height = cv2.boundingRect(rim)
    window = (slice(y, y + height), slice(x, x + width))
    return letters[window].astype(np.float32) / 255.0, rim[window].astype(np.float32) / 255.0, base - y


def _tint(patch: Picture, share: NDArray[np.float32], colour: Colour) -> Picture:
    mixed = patch + (np.array(colour, np.float32) - patch) * share[..., None]
    return np.rint(mixed).astype(np.uint8)
