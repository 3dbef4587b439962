"""Promise: motion that the flow explains costs nothing, what it uncovers is left out, and held frames are counted."""

import pytest
import torch
from damaged_clips import drawn_clip

from training.metrics.linearity import measure_linearity
from training.metrics.metric import ClipPair
from training.metrics.motion import Motion, find_occlusion, held_pairs, sample_at, warp_back


def uniform_flow(x, y, *, height=24, width=32):
    return torch.tensor([x, y], dtype=torch.float32).view(2, 1, 1).expand(2, height, width).clone()


def test_flow_points_from_the_first_frame_into_the_second():
    first = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))
    second = torch.roll(first, shifts=(2, 3), dims=(1, 2))      # everything moves 3 right and 2 down
    warped = sample_at(second, uniform_flow(3.0, 2.0))
    torch.testing.assert_close(warped[:, :-2, :-3], first.double()[:, :-2, :-3])


def test_reading_outside_gives_the_border():
    picture = torch.arange(32.0).expand(1, 24, 32)
    assert sample_at(picture, uniform_flow(100.0, 0.0)).unique().tolist() == [31.0]


def test_half_pixels_are_means():
    picture = torch.arange(32.0).expand(1, 24, 32)
    torch.testing.assert_close(sample_at(picture, uniform_flow(0.5, 0.0))[0, :, 3], torch.full((24,), 3.5).double())


def test_error_is_the_mean_square_over_visible_pixels_and_channels():
    first, second = torch.zeros(3, 24, 32), torch.zeros(3, 24, 32)
    second[0] = 0.3                                             # one channel of three differs by 0.3
    found = warp_back(first, second, uniform_flow(0, 0), uniform_flow(0, 0))
    assert found.error == pytest.approx(0.09 / 3, rel=1e-6)
    assert not found.occluded.any()


def test_what_does_not_come_back_is_left_out():
    forward, backward = uniform_flow(0, 0), uniform_flow(0, 0)
    backward[0, :, :16] = 5.0                                   # the left half claims to come from elsewhere
    occluded = find_occlusion(forward, backward)
    assert occluded[:, :16].all() and not occluded[:, 16:].any()
    second = torch.zeros(3, 24, 32)
    second[:, :, :16] = 1.0
    assert warp_back(torch.zeros(3, 24, 32), second, forward, backward).error == 0


def test_edges_of_motion_are_left_out():
    forward = uniform_flow(0, 0)
    forward[0, :, 16:] = 4.0
    backward = uniform_flow(0, 0)
    backward[0, :, 20:] = -4.0
    occluded = find_occlusion(forward, backward)
    assert occluded[:, 15].all() and not occluded[:, 5].any()


def test_a_clip_whose_every_pixel_is_occluded_has_no_error():
    found = warp_back(torch.zeros(3, 24, 32), torch.ones(3, 24, 32), uniform_flow(0, 0), uniform_flow(9, 9))
    assert found.occluded.all() and found.error == 0


def test_a_blink_is_no_held_frame_and_coding_noise_is_one():
    still = torch.full((3, 3, 64, 64), 0.5)
    still[1] += 0.004 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    still[2, :, 10:18, 10:18] = 0.1                             # an eye of 8 pixels closes
    assert held_pairs(still).tolist() == [True, False]


def test_held_ratio_counts_frames_drawn_on_twos():
    video = drawn_clip(num_frames=8, height=64, width=64).repeat_interleave(2, dim=0)
    metric = Motion(flow=lambda first, second: torch.zeros(2, *first.shape[1:]), flow_name="none")
    metric.update(ClipPair("twos", video, video, ""))
    # 16 frames of 8 drawings: 15 transitions, 8 of which repeat.
    assert {result.name: result.value for result in metric.results()}["held_ratio"] == pytest.approx(8 / 15)


def test_motion_is_the_length_of_the_flow():
    metric = Motion(flow=lambda first, second: uniform_flow(3.0, 4.0, height=64, width=64), flow_name="constant")
    video = drawn_clip(num_frames=4, height=64, width=64)
    metric.update(ClipPair("clip", video, video, ""))
    assert {result.name: result.value for result in metric.results()}["motion"] == pytest.approx(5)


def test_even_straight_motion_is_linear_and_a_swerve_is_not():
    flow = torch.zeros(2, 60, 80)
    flow[:, 20:40, 30:50] = 5.0
    swerve = flow.clone()
    swerve[0] = -swerve[0]
    assert measure_linearity(-flow, flow).is_linear
    assert measure_linearity(-flow, flow).deviation == pytest.approx(0)
    assert not measure_linearity(-flow, swerve).is_linear       # offset (0, 5, mean) against span: half of 5 over 5


def test_a_pan_is_no_motion_of_drawings():
    flow = torch.full((2, 60, 80), 4.0)
    assert measure_linearity(-flow, flow).is_pan
