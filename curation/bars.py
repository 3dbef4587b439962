"""Black bars: the part of the picture that ever shows something, over all looks at a film.

The union over the whole film never cuts picture away: a dark scene in one shot does not move the bars found in the others.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STRIDE = 4                   # pixels sampled along a row or column
LIT_SHARE = 0.02             # of a line that must be lit; a stray bright pixel is noise
MIN_KEPT = 0.3               # of each side: less means a dark film, not bars
MARGIN_PX = 1                # beside a bar, where scaling has mixed picture and bar


class BarsMeter:
    """Collects which rows and columns are ever lit."""

    def __init__(self, *, full_range: bool) -> None:
        self.black = 16 if full_range else 32
        self._rows: NDArray[np.bool_] | None = None
        self._columns: NDArray[np.bool_] | None = None

    def add(self, luma: NDArray[np.uint8]) -> None:
        """Takes one full-size luma plane, uint8 [h, w]; planes of another size than the first are ignored."""
        lit = cv2.threshold(luma, self.black, 255, cv2.THRESH_BINARY)[1]
        rows = cv2.reduce(lit, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0] > 255 * LIT_SHARE
        columns = cv2.reduce(lit[::STRIDE], 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[0] > 255 * LIT_SHARE
        if self._rows is None or self._columns is None:
            self._rows, self._columns = rows, columns
        elif len(rows) == len(self._rows) and len(columns) == len(self._columns):
            self._rows |= rows
            self._columns |= columns

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """x, y, width, height of the picture without its bars, on even pixels; the whole picture where there are none."""
        top, bottom = _lit_range(self._rows, height)
        left, right = _lit_range(self._columns, width)
        return left, top, right - left, bottom - top


def _lit_range(lit: NDArray[np.bool_] | None, size: int) -> tuple[int, int]:
    if lit is None or len(lit) != size or not lit.any():
        return 0, size
    first, last = int(lit.argmax()), size - int(lit[::-1].argmax())
    first = first + MARGIN_PX if first > 2 else 0
    last = last - MARGIN_PX if size - last > 2 else size
    first += first % 2
    last -= (last - first) % 2
    return (first, last) if last - first >= MIN_KEPT * size else (0, size)
