"""Promise: line distances are geometry: a line moved by so many pixels is so far away."""

import math

import numpy as np
import pytest
import torch

from training.metrics.lines import line_distance, line_distances, line_map


def vertical_line(column, *, height=30, width=40):
    lines = np.zeros((height, width), dtype=bool)
    lines[:, column] = True
    return lines


def test_a_line_moved_by_three_pixels_is_three_pixels_away():
    chamfer, hausdorff, ratio = line_distances(vertical_line(10), vertical_line(13))
    diagonal = math.hypot(30, 40)
    # One pixel in forty belongs to the line; chamfer is a mean over all pixels.
    assert chamfer == pytest.approx(3 / 40 / diagonal)
    assert hausdorff == pytest.approx(3 / diagonal)
    assert ratio == 1


def test_distance_to_a_point_is_euclidean():
    point = np.zeros((20, 20), dtype=bool)
    point[5, 5] = True
    rows, columns = np.indices(point.shape)
    np.testing.assert_allclose(line_distance(point), np.hypot(rows - 5, columns - 5), rtol=1e-12)


def test_a_lost_drawing_is_a_diagonal_away():
    empty = np.zeros((30, 40), dtype=bool)
    chamfer, hausdorff, ratio = line_distances(vertical_line(10), empty)
    assert (chamfer, hausdorff, ratio) == (pytest.approx(1 / 40 / 2), pytest.approx(1), 0)


def test_two_empty_drawings_agree():
    empty = np.zeros((8, 8), dtype=bool)
    assert line_distances(empty, empty) == (0, 0, 1)


def test_lines_are_dark_strokes_whatever_the_paint():
    picture = torch.full((1, 3, 40, 40), 0.8)
    picture[:, :, :, 20:22] = 0.1
    found = line_map(picture)[0]
    assert found[5:-5, 20:22].all()
    assert not found[:, :12].any() and not found[:, 30:].any()
    assert not line_map(1 - picture)[0, 5:-5, 20:22].any()     # a bright stroke is no outline


def test_a_blank_picture_has_no_lines_up_to_its_border():
    assert not line_map(torch.full((1, 3, 30, 30), 0.6)).any()
