"""Promise: sparse sketches are chosen as published: four times of five by halving the clip, which never takes its last frame."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.diffusion.sketch_selection import bisection, select_frames


@given(length=st.integers(2, 200), depth=st.integers(1, 9))
def test_bisection_never_selects_the_last_frame(length, depth):
    frames = bisection(length, depth)
    assert frames == sorted(set(frames))
    assert frames[0] >= 1 and frames[-1] < length
    assert (1 + length) // 2 in frames


@given(length=st.integers(2, 200), depth=st.integers(1, 8))
def test_a_deeper_bisection_keeps_the_frames_of_a_shallower_one(length, depth):
    assert set(bisection(length, depth)) <= set(bisection(length, depth + 1))


def test_the_first_frame_is_reached_at_depth_four_of_a_clip_of_sixteen():
    assert 1 in bisection(16, 4) and 1 not in bisection(16, 3)


def test_halving_happens_four_times_of_five_and_each_depth_equally_often():
    generator = np.random.default_rng(0)
    patterns = {depth: np.isin(np.arange(1, 17), bisection(16, depth)) for depth in range(1, 5)}
    draws = [select_frames(16, generator) for _ in range(4000)]
    counts = [sum(np.array_equal(draw, pattern) for draw in draws) for pattern in patterns.values()]
    # 4000 * 0.8 / 4 = 800 each, standard deviation 25; random subsets add almost nothing
    assert all(700 < count < 900 for count in counts), counts


def test_random_subsets_have_every_size_equally_often_and_may_hold_any_frame():
    generator = np.random.default_rng(0)
    draws = np.stack([select_frames(16, generator, bisection_probability=0.0) for _ in range(8000)])
    assert draws.dtype == bool
    sizes = np.bincount(draws.sum(axis=1), minlength=17)
    assert sizes[0] == 0
    assert sizes[1:].min() > 400 and sizes[1:].max() < 600      # 500 each, standard deviation 22
    assert np.abs(draws.mean(axis=0) - 8.5 / 16).max() < 0.03   # all frames alike: mean size 8.5 of 16


@given(seed=st.integers(0, 2 ** 32), length=st.integers(2, 40))
def test_a_seed_gives_the_same_choice_and_at_least_one_frame(seed, length):
    first, again = (select_frames(length, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (length,) and first.any()
