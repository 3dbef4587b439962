"""Promise: trapped-ball filling in small windows equals filling over whole pictures."""

import cv2
import literal_segmentation as literal
import numpy as np
import pytest

from training.animeinterp.trapped_ball import BALLS, ball_fills, components, fill_map


def scribble(seed, height=70, width=90, lines=14, *, dots=0.01):
    """A free map with random lines, gaps between them, and specks: everything that makes fills meet."""
    draws = np.random.RandomState(seed)
    free = np.full((height, width), 255, np.uint8)
    for _ in range(lines):
        ends = [tuple(int(value) for value in draws.randint(-5, (width + 5, height + 5))) for _ in range(2)]
        cv2.line(free, *ends, 0, int(draws.randint(1, 3)))
    free[draws.uniform(size=free.shape) < dots] = 0
    return free


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_fills_equal_those_of_whole_pictures(seed, radius):
    free = scribble(seed, dots=0.0 if radius == 3 else 0.01)
    found, expected = ball_fills(free, radius), literal.ball_fills(free, radius)
    assert len(found) == len(expected) > 1
    for index, (fill, mask) in enumerate(zip(found, expected, strict=True)):
        painted = np.zeros(free.shape, np.uint8)
        fill.paint(painted, 1)
        np.testing.assert_array_equal(painted, mask, err_msg=f"seed {seed}, fill {index}")
        assert fill.area_px == mask.sum()


@pytest.mark.parametrize("seed", range(6, 10))
def test_label_maps_equal_those_of_whole_pictures(seed):
    free = scribble(seed)
    np.testing.assert_array_equal(fill_map(free).labels, literal.fill_map(free))


def test_a_ball_does_not_pass_a_gap_narrower_than_itself():
    free = np.full((40, 60), 255, np.uint8)
    free[:, 30] = 0
    free[18:22, 30] = 255                   # a gap of 4: a ball of 5 stays, a ball of 3 passes
    assert len(ball_fills(free, 2)) == 2
    assert len(ball_fills(free, 1)) == 1


def test_maps_without_room_or_without_lines_are_filled_too():
    narrow = np.zeros((12, 12), np.uint8)
    narrow[4:6] = 255
    assert fill_map(narrow).num_after == (0, 0, 0, 1)
    assert fill_map(np.zeros((8, 8), np.uint8)).labels.max() == 0
    assert (fill_map(np.full((20, 30), 255, np.uint8)).labels == 1).all()


def test_components_are_numbered_in_raster_order():
    free = np.zeros((5, 9), np.uint8)
    free[4, 0:3] = free[2, 4] = free[1:4, 8] = 255
    free[1, 6] = 255
    assert [int(components(free)[place]) for place in ((1, 6), (1, 8), (2, 4), (4, 0))] == [1, 2, 3, 4]


def test_balls_are_symmetric_and_grow():
    for radius, ball in BALLS.items():
        assert ball.shape == (2 * radius + 1, 2 * radius + 1)
        np.testing.assert_array_equal(ball, ball[::-1, ::-1])
    assert [int(BALLS[radius].sum()) for radius in (1, 2, 3)] == [5, 17, 33]
