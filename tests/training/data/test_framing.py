"""Promise: pictures keep their shape and their middle when they are brought to the size of a sample, and do not alias."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.framing import cover


def test_picture_of_the_right_size_is_left_alone() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    assert np.array_equal(cover(pictures, width=64, height=64), pictures)


@pytest.mark.parametrize(("width", "height"), [(256, 128), (128, 256), (64, 64), (300, 128)])
def test_shorter_side_fits_and_the_middle_of_the_longer_one_stays(width: int, height: int) -> None:
    pictures = np.zeros((1, height, width, 3), np.uint8)
    pictures[:, height // 2 - 16 : height // 2 + 16, width // 2 - 16 : width // 2 + 16] = 255
    found = cover(pictures, width=64, height=64)
    assert found.shape == (1, 64, 64, 3)
    # The white square keeps its middle, and its sides shrink alike.
    rows, columns = np.nonzero(found[0, :, :, 0] > 127)
    side = 32 * 64 / min(width, height)
    assert np.ptp(rows) + 1 == pytest.approx(side, abs=1) and np.ptp(columns) + 1 == pytest.approx(side, abs=1)
    assert rows.mean() == pytest.approx(31.5, abs=1) and columns.mean() == pytest.approx(31.5, abs=1)


def test_lines_finer_than_a_pixel_become_grey_and_do_not_flicker() -> None:
    pictures = np.zeros((1, 256, 256, 3), np.uint8)
    pictures[:, :, ::2] = 255                      # every second column white: half of the light
    found = cover(pictures, width=64, height=64)[0, :, 4:-4]
    assert np.abs(found.astype(int) - 127).max() < 8


def test_drawings_have_one_channel() -> None:
    assert cover(np.full((3, 32, 48, 1), 255, np.uint8), width=64, height=64).shape == (3, 64, 64, 1)
