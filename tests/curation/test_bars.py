"""Promise: black bars are found and cut off, and a dark picture never is."""

from __future__ import annotations

import numpy as np
import pytest

from curation.bars import BarsMeter

WIDTH, HEIGHT = 320, 180
BLACK = 16                   # of limited-range video


def luma(x: int = 0, y: int = 0, width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0, low: int = 60, high: int = 220,
         black: int = BLACK) -> np.ndarray:
    """A textured picture in a black frame, with the slight noise that coding leaves in black."""
    rng = np.random.default_rng(seed)
    plane = rng.integers(black - 2, black + 3, (HEIGHT, WIDTH)).astype(np.uint8)
    plane[y:y + height, x:x + width] = rng.integers(low, high, (height, width))
    return plane


def box_of(*planes: np.ndarray, full_range: bool = False) -> tuple[int, int, int, int]:
    meter = BarsMeter(full_range=full_range)
    for plane in planes:
        meter.add(plane)
    return meter.box(WIDTH, HEIGHT)


@pytest.mark.parametrize(("x", "y", "width", "height"), [
    (0, 22, WIDTH, 136),                   # letterbox
    (0, 23, WIDTH, 133),                   # with odd borders
    (40, 0, 240, HEIGHT),                  # pillarbox
    (41, 0, 239, HEIGHT),
    (40, 20, 240, 140),                    # both: a film of another shape within a film
    (0, 30, WIDTH, 150),                   # above only
])
def test_box_is_the_picture_without_its_bars(x: int, y: int, width: int, height: int) -> None:
    left, top, wide, high = box_of(luma(x, y, width, height))
    assert all(value % 2 == 0 for value in (left, top, wide, high))
    # Inside the picture, and no side loses more than the margin of a pixel and one to make it even.
    assert 0 <= left - x <= 2 and 0 <= top - y <= 2
    assert 0 <= (x + width) - (left + wide) <= 3 and 0 <= (y + height) - (top + high) <= 3


def test_picture_without_bars_stays_whole() -> None:
    assert box_of(luma()) == (0, 0, WIDTH, HEIGHT)


def test_film_of_which_nothing_was_seen_stays_whole() -> None:
    assert box_of() == (0, 0, WIDTH, HEIGHT)
    assert box_of(np.full((HEIGHT, WIDTH), BLACK, np.uint8)) == (0, 0, WIDTH, HEIGHT)


def test_dark_film_has_no_bars() -> None:
    candle = luma(140, 80, 40, 30)         # an eighth of the width lit: a candle, not a film in a frame
    assert box_of(candle) == (0, 0, WIDTH, HEIGHT)


def test_dark_scene_does_not_move_the_bars_of_the_others() -> None:
    letterbox = luma(0, 22, WIDTH, 136)
    dark = luma(100, 60, 120, 60, seed=1)
    assert box_of(dark, letterbox, dark) == box_of(letterbox)


def test_stray_bright_pixels_in_a_bar_are_noise() -> None:
    plane = luma(0, 22, WIDTH, 136)
    plane[4, 100] = plane[175, 12] = 200
    assert box_of(plane) == box_of(luma(0, 22, WIDTH, 136))


def test_black_of_full_range_lies_lower() -> None:
    dim = luma(0, 22, WIDTH, 136, low=24, high=30, black=3)      # dim, but no black of full range
    assert box_of(dim, full_range=True)[1] == 24
    assert box_of(dim, full_range=False) == (0, 0, WIDTH, HEIGHT)


def test_plane_of_another_size_is_ignored() -> None:
    letterbox = luma(0, 22, WIDTH, 136)
    assert box_of(letterbox, np.full((90, 160), 200, np.uint8)) == box_of(letterbox)
