"""Promise: stride, start, mirroring, frame rate and dropped conditions of a sample follow from (seed, n) as the recipe says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small_shards import make_job

from training.data.clips import Clip
from training.data.windows import draw_dropped, draw_window, fixed_window, rate

DATA = make_job(None, Path("out"), stride_min=1, stride_max=3).data


def clip(num_frames: int = 20, fps: float = 24.0, holds: tuple[int, ...] = ()) -> Clip:
    return Clip("clip", "", fps, holds or (1,) * num_frames, b"")


def test_window_is_a_function_of_seed_and_number() -> None:
    windows = [draw_window(clip(), 4, DATA, seed=1, number=number) for number in range(50)]
    assert windows == [draw_window(clip(), 4, DATA, seed=1, number=number) for number in range(50)]
    assert windows != [draw_window(clip(), 4, DATA, seed=2, number=number) for number in range(50)]


def test_every_stride_is_drawn_as_often_with_the_rate_that_follows() -> None:
    windows = [draw_window(clip(), 4, DATA, seed=1, number=number) for number in range(600)]
    strides = Counter(window.frames[1] - window.frames[0] for window in windows)
    # 200 expected of each, standard deviation sqrt(600 / 3 * 2 / 3) = 12.
    assert sorted(strides) == [1, 2, 3] and max(abs(count - 200) for count in strides.values()) < 5 * 12
    assert {(window.frames[1] - window.frames[0], window.fps) for window in windows} == {(1, 24), (2, 12), (3, 8)}
    flips = sum(window.is_flipped for window in windows)
    assert abs(flips - 300) < 5 * 13


def test_clip_too_short_for_long_strides_takes_those_that_fit() -> None:
    # 4 frames of 8 reach over at most (8 - 1) // 3 = 2 each.
    found = {window.frames[1] - window.frames[0]
             for window in (draw_window(clip(8), 4, DATA, seed=1, number=number) for number in range(100))}
    assert found == {1, 2}
    with pytest.raises(ValueError, match="no 4"):
        draw_window(clip(3), 4, DATA, seed=1, number=0)


@pytest.mark.parametrize(("source_fps", "stride", "fps_max", "expected"), [
    (24.0, 1, 0.0, 24), (24.0, 5, 0.0, 4), (23.976, 1, 0.0, 23), (29.97, 2, 0.0, 14), (60.0, 1, 30.0, 30), (2.0, 6, 0.0, 1),
    (50 / (50 / 24 + 1e-12), 1, 0.0, 24),       # a mean rate just under 24 is 24
])
def test_rate_is_the_floor_of_source_rate_over_stride(source_fps: float, stride: int, fps_max: float, expected: int) -> None:
    assert rate(source_fps, np.arange(4) * stride, fps_max=fps_max) == expected


def test_rate_of_distinct_drawings_counts_the_frames_they_were_held() -> None:
    data = make_job(None, Path("out"), drawings=True, stride_max=1).data
    window = draw_window(clip(holds=(2, 2, 2, 2), num_frames=8), 4, data, seed=0, number=0)
    assert window.frames == (0, 2, 4, 6) and window.fps == 12


def test_held_out_windows_lie_in_the_middle_and_go_round_the_strides() -> None:
    windows = [fixed_window(clip(20), 4, DATA, index=index) for index in range(4)]
    assert [window.frames for window in windows] == [(8, 9, 10, 11), (6, 8, 10, 12), (5, 8, 11, 14), (8, 9, 10, 11)]
    assert [window.fps for window in windows] == [24, 12, 8, 24] and not any(window.is_flipped for window in windows)
    assert fixed_window(clip(8), 4, DATA, index=2).frames == (2, 3, 4, 5)      # a stride of 3 does not fit, the round is of two


def test_conditions_are_dropped_by_one_uniform_number() -> None:
    found = Counter((dropped.text, dropped.image)
                    for dropped in (draw_dropped(0.05, seed=9, number=number) for number in range(6000)))
    # u < p: text alone; p <= u < 2p: both; 2p <= u < 3p: image alone. 300 each, standard deviation 17.
    for case in ((True, False), (True, True), (False, True)):
        assert abs(found[case] - 300) < 5 * 17
    assert not any(draw_dropped(0.0, seed=9, number=number).text for number in range(100))
