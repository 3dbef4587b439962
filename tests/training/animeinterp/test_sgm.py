"""Promise: segment-guided matching finds how drawn pieces move, is deterministic, fast, and computed once."""

import os
import time

import cv2
import numpy as np
import pytest
import torch
from drawn_pairs import drawn_pair, shifted_square

from pipeline.errors import UserError
from pipeline.store import Store
from training.animeinterp import sgm
from training.animeinterp.behaviour import EXACT, FAST, Behaviour
from training.animeinterp.contours import DISNEY
from training.animeinterp.features import stand_in_vgg19
from training.animeinterp.matching import Pieces
from training.animeinterp.piece_flow import is_believable, overlap
from training.animeinterp.sgm import CachedMatching, MatchingSettings, match_pair


@pytest.fixture(scope="module")
def network():
    return stand_in_vgg19()


def exact(behaviour=Behaviour.RELEASED):
    return MatchingSettings(behaviour=behaviour, effort=EXACT)


@pytest.mark.parametrize("behaviour", Behaviour)
@pytest.mark.parametrize("effort", [EXACT, FAST])
def test_a_moved_shape_gets_its_shift_both_ways(network, behaviour, effort):
    (first, second), inside = shifted_square(shift=(7, 4))
    found = match_pair(first, second, network, MatchingSettings(behaviour=behaviour, effort=effort))
    moved = np.roll(inside, (4, 7), axis=(0, 1))
    np.testing.assert_allclose(np.median(found.flow01[:, inside], axis=1), [7, 4], atol=0.5)
    np.testing.assert_allclose(np.median(found.flow10[:, moved], axis=1), [-7, -4], atol=0.5)
    assert found.flow01.dtype == np.float32 and found.flow01.shape == (2, *inside.shape)


def test_the_released_way_leaves_the_background_without_flow(network):
    (first, second), _ = shifted_square(shift=(7, 4))
    found = match_pair(first, second, network, exact())
    assert (found.flow01[:, :20] == 0).all()
    assert (found.flow01[:, 70:] == 0).all()


def test_plain_and_equal_frames_do_not_move(network):
    plain = np.full((48, 64, 3), 140, np.uint8)
    for behaviour in Behaviour:
        found = match_pair(plain, plain, network, exact(behaviour))
        assert np.abs(found.flow01).max() < 0.05 and np.abs(found.flow10).max() < 0.05
    still = drawn_pair(144, 192, num_shapes=6)[0]
    assert np.abs(match_pair(still, still, network, exact()).flow01).max() < 0.1


def test_flows_are_the_same_whenever_they_are_computed(network):
    pair = drawn_pair(144, 192, num_shapes=6)
    first = match_pair(*pair, network, exact())
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        second = match_pair(*pair, network, exact())
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(first.flow01, second.flow01)
    np.testing.assert_array_equal(first.flow10, second.flow10)
    assert (first.flow01 != 0).any()


def test_pieces_are_believed_within_the_limits_of_the_release():
    def of(area, x):
        return Pieces(areas=np.array([area]), centroids=np.array([[x, 0.0]]), size=(540, 960))

    assert is_believable(of(100, 0), of(100, 250), 0, 0)
    assert not is_believable(of(100, 0), of(100, 251), 0, 0)
    assert not is_believable(of(50, 0), of(60, 0), 0, 0)
    assert not is_believable(of(62_208, 0), of(62_000, 0), 0, 0)       # 0.12 * 540 * 960
    assert is_believable(of(62_207, 0), of(62_000, 0), 0, 0)
    assert not is_believable(of(100, 0), of(300, 0), 0, 0)
    assert not is_believable(of(300, 0), of(100, 0), 0, 0)


def test_overlap_is_the_share_of_places_reached_that_lie_in_the_partner():
    moved, target = np.zeros((8, 10), bool), np.zeros((8, 10), bool)
    moved[2:4, 2:6] = True                              # 8 pixels, moved by one: 6 of them stay on the partner
    target[2:4, 2:6] = True
    assert overlap(np.zeros((8, 2), np.float32), moved, target) == 1.0
    assert overlap(np.full((8, 2), [1, 0], np.float32), moved, target) == pytest.approx(6 / 8)
    assert overlap(np.full((8, 2), [100, 0], np.float32), moved, target) == 0.0


def test_a_pair_is_matched_once(network, tmp_path, monkeypatch):
    pair = drawn_pair(144, 192, num_shapes=6)
    first = CachedMatching(Store(tmp_path), network, exact()).flows(*pair)
    monkeypatch.setattr(sgm, "match_pair", lambda *_: pytest.fail("matched again"))
    second = CachedMatching(Store(tmp_path), network, exact()).flows(*pair)
    np.testing.assert_array_equal(first.flow01, second.flow01)
    np.testing.assert_array_equal(first.flow10, second.flow10)


def test_the_key_changes_with_everything_that_changes_flows(network, tmp_path):
    first, second = drawn_pair(64, 96, num_shapes=2)
    store = Store(tmp_path)
    touched = first.copy()
    touched[0, 0, 0] += 1
    keys = [CachedMatching(store, network, exact()).key(*pair)
            for pair in ((first, second), (second, first), (touched, second), (first, touched))]
    keys += [CachedMatching(store, network, settings).key(first, second)
             for settings in (exact(Behaviour.PAPER), MatchingSettings(), MatchingSettings(style=DISNEY))]
    keys.append(CachedMatching(store, stand_in_vgg19(seed=1), exact()).key(first, second))
    assert len(set(keys)) == len(keys)
    assert CachedMatching(store, stand_in_vgg19(), exact()).key(first.copy(), second) == keys[0]


def test_frames_that_are_too_small_are_refused(network):
    tiny = np.zeros((20, 40, 3), np.uint8)
    with pytest.raises(UserError, match="40x20"):
        match_pair(tiny, tiny, network, exact())


@pytest.mark.slow
def test_a_pair_of_the_papers_size_takes_two_seconds_on_one_core():
    """Processor time of one thread; a machine that shares its cores is slower, so SGM_SECONDS may allow more."""
    network, pair = stand_in_vgg19(width_divisor=1), drawn_pair(540, 960, num_shapes=60)
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        took = []
        for _ in range(3):
            begin = time.process_time()
            match_pair(*pair, network, MatchingSettings())
            took.append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
    assert min(took) <= float(os.environ.get("SGM_SECONDS", "2.0")), f"seconds: {took}"
