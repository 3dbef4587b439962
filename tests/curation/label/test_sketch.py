"""Promise: line art shows the drawn lines, dark on white paper, and nothing of flat areas and noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.label.sketch import line_art

LINE, FILL, BACK = 20, 190, 140


def cel(width: int = 512, height: int = 320) -> np.ndarray:
    """A filled disc with a dark outline on a flat background."""
    gray = np.full((height, width), BACK, np.uint8)
    cv2.circle(gray, (width // 2, height // 2), height // 4, FILL, -1, cv2.LINE_AA)
    cv2.circle(gray, (width // 2, height // 2), height // 4, LINE, 3, cv2.LINE_AA)
    return gray


def test_outlines_become_dark_and_everything_else_white():
    gray = cel()
    art = line_art(gray)
    outline = gray < 40
    far = cv2.dilate(outline.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
    assert art.dtype == np.uint8 and art.shape == gray.shape
    assert np.mean(art[outline] < 128) > 0.9
    assert np.all(art[far] == 255)


def test_a_flat_picture_is_white_paper():
    for level in (0, 128, 255):
        assert np.all(line_art(np.full((320, 512), level, np.uint8)) == 255)


def test_noise_of_compression_draws_nothing():
    noise = np.random.default_rng(0).normal(0, 4, (320, 512))
    art = line_art(np.clip(BACK + noise, 0, 255).astype(np.uint8))
    assert np.mean(art < 128) < 0.001


def test_a_soft_shading_draws_nothing():
    art = line_art(np.tile(np.linspace(30, 220, 512), (320, 1)).astype(np.uint8))
    assert np.all(art > 200)


def test_lines_stay_when_the_picture_is_dark_or_bright():
    dark = (cel() * 0.5).astype(np.uint8)
    outline = cel() < 40
    assert np.mean(line_art(dark)[outline] < 128) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (32, 512), (1080, 1920)])
def test_any_size_keeps_its_shape(shape: tuple[int, int]):
    assert line_art(np.full(shape, 100, np.uint8)).shape == shape


def test_equal_pixels_give_equal_art_and_the_input_stays():
    gray = cel()
    before = gray.copy()
    assert np.array_equal(line_art(gray), line_art(gray))
    assert np.array_equal(gray, before)


def test_dust_is_not_drawn_but_a_short_stroke_is():
    gray = np.full((320, 512), BACK, np.uint8)
    gray[100:103, 100:103] = LINE
    gray[200:203, 100:120] = LINE
    art = line_art(gray)
    assert np.all(art[90:112, 90:112] == 255)
    assert np.any(art[195:208, 95:125] < 128)
