"""Promise: drawings are those of the frames asked for, whether they are read from the sample or made here."""

from __future__ import annotations

import io

import numpy as np
import pytest

from curation.label.sketch import line_art
from training.data.sketches import draw_lines, draw_sketch, read_sketches


def make_npz(drawings: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, sketch=drawings)
    return buffer.getvalue()


def test_drawings_are_read_in_the_order_asked_for() -> None:
    drawings = np.random.default_rng(0).integers(0, 256, (6, 8, 10), np.uint8)
    wanted = np.array([4, 0, 4, 2])
    assert np.array_equal(read_sketches(make_npz(drawings), wanted), drawings[wanted])


@pytest.mark.parametrize("npz", [
    b"", b"no zip", make_npz(np.zeros((2, 8, 10), np.uint8)), make_npz(np.zeros((6, 8), np.uint8)),
    make_npz(np.zeros((6, 8, 10), np.float32)), make_npz(np.random.default_rng(0).integers(0, 256, (6, 80, 90), np.uint8))[:-999],
])
def test_damaged_drawings_are_refused(npz: bytes) -> None:
    with pytest.raises(ValueError, match=r"its sketch\.npz cannot be read"):
        read_sketches(npz, np.array([3]))


def test_lines_are_dark_on_paper_and_flat_areas_are_empty() -> None:
    picture = np.full((64, 96, 3), 200, np.uint8)
    picture[20:23, 10:80] = 20
    found = draw_sketch(picture)
    assert found.shape == (64, 96) and found.dtype == np.uint8
    assert found[21, 20:70].max() < 60 and (found[40:] == 255).all()


def test_drawing_is_that_of_the_curation() -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (12, 16), np.uint8)
    gray = np.kron(noise, np.ones((20, 30), np.uint8))             # blocks with edges
    gray[100:103] = 10
    gray[generator.integers(0, 240, 50), generator.integers(0, 480, 50)] = 0      # specks
    assert np.array_equal(draw_lines(gray), line_art(gray))
    assert 0.02 < (draw_lines(gray) < 128).mean() < 0.5
