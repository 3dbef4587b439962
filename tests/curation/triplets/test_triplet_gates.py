"""Promise: every two frames of a triplet are neither the same drawing nor another scene, by the SSIM that is documented."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from triplet_films import HEIGHT, WIDTH, draw_disc, encode

from curation.triplets.config import SsimLimits
from curation.triplets.gates import TOO_ALIKE, TOO_DIFFERENT, decide, measure_pairs
from curation.triplets.ssim import grey_at, prepare, ssim

LIMITS = SsimLimits(min=0.75, max=0.95, size="960x540")
NOISE = np.random.default_rng(3).integers(0, 256, (90, 160)).astype(np.uint8)
GREY = grey_at(draw_disc(60, 50), (160, 90))


@pytest.mark.parametrize(("one", "two"), [
    (GREY, grey_at(draw_disc(66, 50), (160, 90))), (GREY, 255 - GREY), (GREY, NOISE), (GREY // 8, GREY // 8 + 3),
    (np.full_like(GREY, 250), np.full_like(GREY, 251))])
def test_ssim_is_that_of_scikit_image(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> None:
    expected = structural_similarity(one, two, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    # Float32 instead of float64: on flat pictures variances cancel to a few 1e-3 grey levels squared, against C2 = 58.5.
    assert ssim(prepare(one), prepare(two)) == pytest.approx(expected, abs=1e-4)


def test_ssim_of_a_picture_with_itself_is_one_and_does_not_depend_on_order() -> None:
    other = prepare(grey_at(draw_disc(70, 40), (160, 90)))
    assert ssim(prepare(GREY), prepare(GREY)) == pytest.approx(1.0, abs=1e-4)
    assert ssim(prepare(GREY), other) == ssim(other, prepare(GREY))


@pytest.mark.parametrize("place", range(3))
def test_any_pair_may_drop_a_triplet(place: int) -> None:
    values = [0.85, 0.85, 0.85]
    assert decide(values, LIMITS).keep
    for value, gate in ((0.951, TOO_ALIKE), (0.749, TOO_DIFFERENT)):
        values[place] = value
        verdict = decide(values, LIMITS)
        assert (verdict.keep, verdict.gate) == (False, gate)
        assert ("1 and 2", "2 and 3", "1 and 3")[place] in verdict.reason


def test_the_limits_themselves_are_kept() -> None:
    assert decide([0.75, 0.95, 0.8], LIMITS).keep


def test_pairs_of_a_film_are_measured_between_the_frames_asked_for() -> None:
    pictures = [draw_disc(30 + 5 * index, 50) for index in range(6)]
    found = measure_pairs(encode(pictures), 6, [0, 2, 3, 5], [1, 2], (WIDTH, HEIGHT))
    values = {(one, two): value for one, two, value in found["ssim"]}
    assert set(values) == {(0, 2), (2, 3), (3, 5), (0, 3), (2, 5)}
    assert found["times_s"] == pytest.approx([index / 24 for index in range(6)], abs=1e-5)
    for (one, two), value in values.items():
        direct = ssim(*(prepare(grey_at(pictures[index], (WIDTH, HEIGHT))) for index in (one, two)))
        assert value == pytest.approx(direct, abs=0.03)          # the film is compressed
    assert values[2, 3] > values[0, 2] > values[0, 3]            # 5, 10 and 15 pixels apart


def test_a_film_of_another_length_than_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match="2 frames, its record 3"):
        measure_pairs(encode([draw_disc(30, 50), draw_disc(40, 50)]), 3, [0, 1], [1], (WIDTH, HEIGHT))


@pytest.mark.parametrize("wrong", [{"min": 0.96}, {"max": 1.1}, {"size": "960"}])
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"ssim\."):
        SsimLimits(**{"min": 0.75, "max": 0.95, "size": "960x540", **wrong})  # type: ignore[arg-type]
