"""Promise: CPBD measures edge widths pixel by pixel as its reference does."""

import numpy as np
import pytest

from training.metrics.cpbd import cpbd, edge_maps


def width_by_steps(picture, row, column, sign):
    """Marziliano's width of one edge, walked step by step; `sign` is 1 for an edge that rises to the right."""
    values = sign * picture[row]
    left = right = 0
    while left < 100 and column - 2 - left >= 0 and values[column - 2 - left] < values[column - 1 - left]:
        left += 1
    while right < 100 and column + 2 + right < len(values) and values[column + 2 + right] > values[column + 1 + right]:
        right += 1
    return 2 + left + right


def test_widths_agree_with_a_walk_along_the_row():
    draws = np.random.default_rng(0)
    picture = np.rint(draws.uniform(0, 255, (70, 90)).cumsum(axis=1) % 256)
    maps = edge_maps(picture)
    down, across = np.gradient(picture)
    checked = 0
    for row, column in zip(*np.nonzero(maps.width_px), strict=True):
        angle = np.degrees(np.arctan2(down[row, column], across[row, column])) if across[row, column] else 0.0
        sign = 1 if np.rint(angle / 45) == 0 else -1
        assert maps.width_px[row, column] == width_by_steps(picture, row, column, sign)
        checked += 1
    assert checked > 100


def test_the_walk_stops_after_a_hundred_steps():
    # A ramp over 240 pixels with a jump in its middle: the jump is the edge, the ramp goes on for longer than counted.
    row = np.arange(240) * 0.5
    row[121:] += 100
    row[120] += 50          # a jump without a pixel between has two equal maxima, of which the reference keeps neither
    maps = edge_maps(np.tile(row, (64, 1)))
    assert maps.width_px.max() == 202


def test_a_jump_is_sharp_and_a_ramp_is_not():
    sharp = np.where(np.arange(128) < 40, 0, 200)
    sharp[40] = 100
    soft = np.rint(100 + 100 * np.tanh((np.arange(128) - 40) / 8))
    for row, expected in ((sharp, 1.0), (soft, 0.0)):
        assert cpbd(np.tile(row, (128, 1)).astype(np.uint8)) == expected


def test_a_jump_without_a_pixel_between_is_no_edge_as_in_the_reference():
    # Its two maxima are equal and neither exceeds both neighbours: aliased drawings can score 0 for being too sharp.
    row = np.zeros(128)
    row[64:] = 200
    assert cpbd(np.tile(row, (128, 1)).astype(np.uint8)) == 0.0


def test_a_picture_without_edges_has_nothing_sharp():
    assert cpbd(np.full((128, 128), 90, dtype=np.uint8)) == 0.0


def test_blocks_cut_off_by_the_border_do_not_count():
    picture = np.zeros((64, 100), dtype=np.uint8)
    picture[:, 80:] = 255           # the only edge lies in the unfinished second block
    assert cpbd(picture) == 0.0


@pytest.mark.parametrize("contrast", [50, 51])
def test_low_contrast_hides_wider_edges(contrast):
    # A ramp of 4 pixels: hidden where 5 pixels go unnoticed, noticed where 3 do.
    ramp = np.interp(np.arange(64), [29, 33], [0, contrast])
    assert cpbd(np.tile(np.rint(ramp), (64, 1)).astype(np.uint8)) == (1.0 if contrast == 50 else 0.0)
