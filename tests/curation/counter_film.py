"""Films whose frames carry their own number, drawn as white and black squares that survive any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 10
SQUARE_PX = 16
WIDTH, HEIGHT = BITS * SQUARE_PX, 48


def counter_picture(number: int, width: int = WIDTH, height: int = HEIGHT, left: int = 0, top: int = 0) -> np.ndarray:
    """RGB uint8 [height, width, 3]: the bits of `number` in the first row of squares from (left, top), gray below."""
    picture = np.full((height, width, 3), 60, np.uint8)
    for bit in range(BITS):
        x = left + bit * SQUARE_PX
        picture[top:top + SQUARE_PX, x:x + SQUARE_PX] = 230 if number >> bit & 1 else 20
    bar = left + number * 7 % (WIDTH - 8)
    picture[top + 24:top + 40, bar:bar + 8] = (200, 80, 40)
    return picture


def read_number(luma: np.ndarray, left: int = 0, top: int = 0, square_px: float = SQUARE_PX) -> int:
    """The number that `counter_picture` drew, from the luma [h, w] of a decoded picture."""
    number = 0
    for bit in range(BITS):
        x, y = int(left + (bit + 0.5) * square_px), int(top + 0.5 * square_px)
        number |= int(luma[y - 1:y + 2, x - 1:x + 2].mean() > 128) << bit
    return number


def write_film(
    path: Path,
    pts: Sequence[int] | int,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    time_base: Fraction = Fraction(1, 24),
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    width: int = WIDTH,
    height: int = HEIGHT,
    left: int = 0,
    top: int = 0,
    first_number: int = 0,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    sample_aspect: Fraction = Fraction(1),
    rotation_deg: float | None = None,
) -> Path:
    """Writes counter pictures shown at `pts` (or 0, 1, 2, ... of so many) in ticks of `time_base`."""
    times = range(pts) if isinstance(pts, int) else pts
    with av.open(str(path), "w", format=container, options=container_options or {}) as film:
        stream = film.add_stream(codec, rate=24, options={"threads": "1", **(options or {})})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, pix_fmt, gop
        stream.codec_context.time_base = time_base
        stream.sample_aspect_ratio = sample_aspect
        if rotation_deg is not None:
            stream.set_display_rotation(rotation_deg)
        for number, time in enumerate(times):
            picture = av.VideoFrame.from_ndarray(
                counter_picture(first_number + number, width, height, left, top)).reformat(format=pix_fmt)
            picture.pts, picture.time_base = time, time_base
            film.mux(stream.encode(picture))
        film.mux(stream.encode(None))
    return path
