"""Promise: the region of interest lies on what moves, the middle drawing has its place on the way, and levels are ranks."""

from __future__ import annotations

import numpy as np
import pytest
from triplet_films import draw_disc

from curation.triplets.difficulty import grade, occluded_share
from curation.triplets.midtime import moving_midtime, shown_midtime
from curation.triplets.movement import HEIGHT_PX, WIDTH_PX, Movement, MovementMeter, without_camera
from curation.triplets.roi import motion_roi
from curation.triplets.ssim import grey_at
from curation.triplets.statistics import measure_statistics

RADIUS = 45


def movement(*places: tuple[float, float], pan: float = 0.0) -> Movement:
    """Of three discs at places of a 480x270 picture, whose background goes left by `pan` pixels a frame."""
    one, two, three = (draw_disc(x, y, radius=RADIUS, width=480, height=270, shift=pan * index)
                       for index, (x, y) in enumerate(places))
    return MovementMeter().measure((one, two, three))


EVEN = movement((180, 130), (200, 130), (220, 130))


def test_the_box_lies_on_the_disc_that_moves() -> None:
    roi = motion_roi(EVEN, 480, 270)
    assert roi is not None
    # The disc of the middle frame lies between 155 and 245, 85 and 175; what it uncovered may belong to the box.
    assert roi.x <= 158 and roi.x + roi.width >= 242 and roi.y <= 88 and roi.y + roi.height >= 172
    assert roi.width <= 2 * RADIUS + 70 and roi.height <= 2 * RADIUS + 50


def test_the_box_is_in_pixels_of_the_picture_asked_for() -> None:
    small, large = motion_roi(EVEN, 480, 270), motion_roi(EVEN, 960, 540)
    assert small is not None and large is not None
    assert large.x == pytest.approx(2 * small.x, abs=2) and large.height == pytest.approx(2 * small.height, abs=3)


def test_the_box_lies_on_the_disc_under_a_moving_camera_too() -> None:
    roi = motion_roi(movement((240, 130), (225, 130), (210, 130), pan=-6), 480, 270)
    assert roi is not None
    assert roi.x + roi.width / 2 == pytest.approx(225, abs=25) and roi.y + roi.height / 2 == pytest.approx(130, abs=25)
    assert roi.width * roi.height < 0.25 * 480 * 270


def test_a_camera_is_taken_out_and_a_camera_that_stands_still_is_not_invented() -> None:
    picture = grey_at(draw_disc(200, 100, width=480, height=270), (WIDTH_PX, HEIGHT_PX))
    x, y = np.meshgrid(np.arange(WIDTH_PX) - 479.5, np.arange(HEIGHT_PX) - 269.5)
    zoom_and_pan = np.stack([0.02 * x + 5.0, 0.02 * y - 3.0], axis=-1).astype(np.float32)
    assert np.abs(without_camera(zoom_and_pan, picture)).max() < 0.05
    noise = np.random.default_rng(0).normal(0.0, 0.3, (HEIGHT_PX, WIDTH_PX, 2)).astype(np.float32)
    assert np.array_equal(without_camera(noise, picture), noise)


def test_where_nothing_moves_there_is_no_box_and_no_midtime() -> None:
    still = movement((180, 130), (180, 130), (180, 130))
    assert motion_roi(still, 480, 270) is None and moving_midtime(still) is None
    assert measure_statistics(still).moving_share == 0.0


@pytest.mark.parametrize("middle", [190, 200, 212])
def test_midtime_is_the_share_of_the_way(middle: float) -> None:
    found = moving_midtime(movement((180, 130), (middle, 130), (220, 130)))
    assert found is not None
    assert found.share == pytest.approx((middle - 180) / 40, abs=0.06) and found.spread < 0.3


def test_what_goes_to_and_fro_has_a_wide_midtime() -> None:
    found = moving_midtime(movement((180, 130), (220, 140), (183, 130)))
    assert found is None or found.spread > 0.5


def test_shown_midtime_is_the_share_of_the_time() -> None:
    assert shown_midtime((1.0, 1.25, 2.0)) == 0.25


def test_faster_discs_have_larger_statistics_and_hide_more() -> None:
    slow = measure_statistics(movement((180, 130), (184, 130), (188, 130)))
    fast = measure_statistics(EVEN)
    assert fast.mean > slow.mean and fast.std_13_px > slow.std_13_px and fast.occluded > slow.occluded
    # A disc of radius 90 at 960x540 goes 80 pixels: at least its 25447 of 518400 pixels move so far, and at most about
    # what it sweeps over, 80 * 180 more.
    assert 0.9 * 80 * 25447 / 518400 < fast.mean_13_px < 1.1 * 80 * (25447 + 80 * 180) / 518400


def test_occlusion_is_what_does_not_return() -> None:
    flow = np.zeros((10, 20, 2), np.float32)
    flow[..., 0] = 4
    # Everything returns except the four columns that leave the picture on the right.
    assert occluded_share(flow, -flow) == pytest.approx(4 / 20)
    assert occluded_share(flow, np.zeros_like(flow)) == 1.0
    assert occluded_share(np.zeros_like(flow), np.zeros_like(flow)) == 0.0


def test_levels_are_thirds_by_rank_of_motion_and_occlusion() -> None:
    means, occluded = [1.0, 50.0, 2.0, 3.0, 40.0, 30.0], [0.1, 0.6, 0.2, 0.3, 0.5, 0.4]
    assert grade(means, occluded).levels == (0, 2, 0, 1, 2, 1)
    assert grade([100 * mean for mean in means], occluded) == grade(means, occluded), "only ranks count"
    assert grade([1.0], [0.5]).levels == (0,) and grade([], []).levels == ()


def test_flows_are_at_the_size_of_the_evaluation() -> None:
    assert EVEN.flow_13.shape == (HEIGHT_PX, WIDTH_PX, 2) == (540, 960, 2)
