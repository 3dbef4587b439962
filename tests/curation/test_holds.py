"""Promise: every frame belongs to exactly one drawing, and held drawings are told from new ones under coding noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.holds import USUAL_PEAK, cadence, frame_ticks, hold_lengths, hold_threshold, hold_times, new_drawings

BOOLS = st.lists(st.booleans(), min_size=1, max_size=80).map(lambda values: np.asarray(values, bool))


def peaks(new: np.ndarray, *, noise: float, drawn: float, seed: int = 0) -> np.ndarray:
    """change_peak of a film: held drawings change by up to `noise` grey levels, new ones by `drawn` to three times `drawn`."""
    rng = np.random.default_rng(seed)
    held = rng.uniform(noise / 2, noise, len(new))
    return np.where(new, rng.uniform(drawn, 3 * drawn, len(new)), held).astype(np.float32)


def every(step: int, num_frames: int) -> np.ndarray:
    return np.arange(num_frames) % step == 0


def found(change_peak: np.ndarray, damaged: tuple[int, ...] = ()) -> np.ndarray:
    is_damaged = np.zeros(len(change_peak), bool)
    is_damaged[list(damaged)] = True
    return new_drawings(change_peak, is_damaged)


@given(BOOLS)
def test_hold_lengths_sum_to_the_frames_and_none_is_empty(new: np.ndarray) -> None:
    holds = hold_lengths(new)
    assert sum(holds) == len(new)
    assert min(holds) >= 1
    assert len(holds) == 1 + int(new[1:].sum())      # the first frame starts a drawing, whatever its own mark


def test_hold_lengths_follow_the_marks() -> None:
    assert hold_lengths(np.array([1, 0, 1, 0, 0, 1], bool)) == (2, 3, 1)
    assert hold_lengths(np.array([0, 0, 1, 0], bool)) == (2, 2)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize(("noise", "drawn"), [(1, 14), (5, 14), (8, 20), (10, 24), (12, 30)])
def test_threshold_lies_in_the_valley_between_noise_and_drawing(noise: float, drawn: float, step: int) -> None:
    new = every(step, 240)
    change_peak = peaks(new, noise=noise, drawn=drawn, seed=step)
    if step > 1:
        assert noise < hold_threshold(change_peak) < drawn
    np.testing.assert_array_equal(found(change_peak), new)


def test_film_without_a_valley_keeps_the_usual_threshold() -> None:
    on_ones = peaks(every(1, 100), noise=1, drawn=60)
    assert hold_threshold(on_ones) == USUAL_PEAK
    held = peaks(np.zeros(100, bool), noise=3, drawn=60)
    assert hold_threshold(held) == USUAL_PEAK
    assert found(held).sum() == 1


@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_first_frame_is_always_new(num_frames: int) -> None:
    new = found(np.zeros(num_frames, np.float32))
    assert new.tolist() == [True, False][:num_frames]


def test_damaged_frame_is_never_taken_for_a_held_drawing() -> None:
    assert np.flatnonzero(found(np.zeros(10, np.float32), damaged=(4,))).tolist() == [0, 4]


@pytest.mark.parametrize(("holds", "label"), [
    ([1] * 16, "ones"), ([2] * 8, "twos"), ([3] * 6, "threes"), ([4] * 5, "fours"),
    ([2, 2, 2], "twos"),
    ([1, 2, 2, 2, 2, 1], "twos"),                # cut within a drawing at both ends
    ([2, 3, 3, 3, 1], "threes"),
    ([2, 2, 2, 20, 2, 2, 2], "twos"),            # a held pose in an animation on twos
    ([2, 2, 2, 1, 2, 2, 2, 2, 2], "twos"),       # one slip: 6 of 7 inner drawings agree
    ([1, 2, 3, 1, 2, 3, 1, 2, 3], "mixed"),
    ([1, 2] * 8, "mixed"),
    ([48], "hold"), ([30, 18], "hold"), ([10, 30, 30, 10], "hold"),
])
def test_cadence_is_named_after_the_usual_hold(holds: list[int], label: str) -> None:
    assert cadence(holds) == label


@pytest.mark.parametrize(("step", "label"), [(1, "ones"), (2, "twos"), (3, "threes")])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_cadence_does_not_depend_on_where_the_clip_is_cut(step: int, label: str, shift: int) -> None:
    assert cadence(hold_lengths(every(step, 60)[shift:shift + 40])) == label


@given(BOOLS, st.integers(1, 5000), st.integers(-100, 10_000))
def test_times_of_drawings_are_their_frames_at_a_constant_rate(new: np.ndarray, ticks: int, first: int) -> None:
    pts, end_pts = first + ticks * np.arange(len(new)), first + ticks * len(new)
    found = frame_ticks(pts, end_pts, 24.0 * ticks)
    assert found == ticks
    assert hold_times(new, pts, end_pts, found) == hold_lengths(new)


def test_times_of_drawings_see_through_rounded_time_stamps() -> None:
    """24 frames a second in milliseconds last 41 or 42 of them."""
    pts = np.round(np.arange(97) * 1000 / 24).astype(np.int64)
    ticks = frame_ticks(pts[:-1], int(pts[-1]), 1000.0)
    assert hold_times(every(3, 96), pts[:-1], int(pts[-1]), ticks) == (3,) * 32


@pytest.mark.parametrize("holds", [[1, 2, 3, 2, 1, 1, 2, 3], [2, 2, 4, 2, 2, 6, 2], [3, 2, 3, 2, 2, 3, 4, 3]])
def test_times_of_drawings_see_through_dropped_repeats(holds: list[int]) -> None:
    """A file without repeats: every frame is new and lasts as long as its drawing; 24 frames a second, in 1/600 s."""
    ends = 25 * np.cumsum(holds * 5)
    pts, end_pts = np.append(0, ends[:-1]), int(ends[-1])
    times = hold_times(np.ones(len(pts), bool), pts, end_pts, frame_ticks(pts, end_pts, 600.0))
    unit = times[0] / holds[0]               # twos throughout may be told as ones of half the rate
    assert unit in (0.5, 1.0)
    assert [time / unit for time in times] == holds * 5
