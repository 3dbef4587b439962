"""Promise: blocky, blurred, combed and tiny pictures are told from sharp flat-coloured drawings."""

from __future__ import annotations

import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from curation.config import QualityLimits
from curation.gates.quality import LookQuality, Quality, decide, measure_look, summarise

LIMITS = QualityLimits(enabled=True, min_side_px=240, max_aspect=3.0, max_blocking=2.5, min_sharpness=0.15)


def drawing(width: int = 640, height: int = 480, seed: int = 0) -> np.ndarray:
    """Flat coloured discs with dark outlines on a soft gradient: what cel animation looks like."""
    rng = np.random.default_rng(seed)
    # Curved: a straight gradient of 80 levels over 640 pixels would step at every 8th pixel, as blocks do.
    luma = np.tile(90 + 80 * np.linspace(0, 1, width) ** 1.7, (height, 1)).astype(np.uint8)
    for _ in range(14):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radius = int(rng.integers(15, height // 5))
        cv2.circle(luma, centre, radius, int(rng.integers(20, 240)), -1, cv2.LINE_AA)
        cv2.circle(luma, centre, radius, 10, 3, cv2.LINE_AA)
    return luma


def test_a_clean_drawing_has_no_blocks_no_combing_and_sharp_edges():
    look = measure_look(drawing())
    assert look.blocking < 1.3
    assert look.comb < 0.01
    assert look.sharpness > 0.6


def test_blocking_grows_with_compression():
    luma = drawing()
    values = [measure_look(cv2.imdecode(cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)).blocking
              for quality in (95, 30, 5)]
    assert values == sorted(values)
    assert values[-1] > LIMITS.max_blocking > values[0]


def test_borders_of_large_coding_blocks_count_too():
    # Steps at every 32nd column only: three of four 8-pixel borders are clean, the period-32 measure is not diluted.
    rng = np.random.default_rng(1)
    cells = rng.integers(100, 112, (480 // 32, 640 // 32)).astype(np.uint8)
    luma = cells.repeat(32, axis=0).repeat(32, axis=1) + rng.integers(0, 2, (480, 640)).astype(np.uint8)
    assert measure_look(luma).blocking > 3.0


def test_a_flat_picture_has_no_blocks_and_is_not_called_blurred():
    for level in (0, 16, 255):
        look = measure_look(np.full((480, 640), level, np.uint8))
        assert (look.blocking, look.sharpness, look.comb, look.luma_std) == (1.0, 1.0, 0.0, 0.0)
        assert look.luma_mean == pytest.approx(level)


def test_an_upscaled_picture_is_less_sharp_the_more_it_was_scaled():
    luma = drawing()
    values = []
    for factor in (1, 3, 6, 10):
        small = cv2.resize(luma, (640 // factor, 480 // factor), interpolation=cv2.INTER_AREA)
        values.append(measure_look(cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)).sharpness)
    assert values == sorted(values, reverse=True)
    assert values[-1] < LIMITS.min_sharpness


def test_a_step_edge_of_k_pixels_has_sharpness_one_over_k():
    for ramp in (1, 2, 4):
        row = np.concatenate([np.full(100, 40.0), np.linspace(40, 200, ramp + 1)[1:-1], np.full(100, 200.0)])
        luma = np.tile(np.round(row).astype(np.uint8), (240, 1))
        assert measure_look(luma).sharpness == pytest.approx(1 / ramp, abs=0.01)


def test_combing_shows_only_where_two_moments_are_woven():
    still, moved = drawing(), np.roll(drawing(), 12, axis=1)
    woven = still.copy()
    woven[1::2] = moved[1::2]
    assert measure_look(woven).comb > 0.15
    assert measure_look(still).comb < 0.01


def test_thin_horizontal_lines_are_not_combing():
    luma = np.full((480, 640), 200, np.uint8)
    luma[10::7] = 20
    assert measure_look(luma).comb < 0.01


@pytest.mark.parametrize("shape", [(1, 1), (6, 10), (64, 2048), (3, 700), (700, 3)])
def test_odd_sizes_are_measured_without_error(shape: tuple[int, int]):
    rng = np.random.default_rng(0)
    look = measure_look(rng.integers(0, 256, shape).astype(np.uint8))
    assert np.isfinite([look.blocking, look.sharpness, look.comb, look.luma_mean, look.luma_std]).all()


def test_a_summary_takes_medians_and_leaves_black_looks_out():
    looks = [LookQuality(1.0, 1.0, 0.0, 16.0, 0.5), *(LookQuality(b, s, 0.0, 90.0, 40.0)
             for b, s in ((1.2, 0.5), (2.0, 0.3), (1.4, 0.6)))]
    quality = summarise(looks, 720, 480, Fraction(8, 9))
    assert quality == Quality(side_px=480, aspect=640 / 480, blocking=1.4, sharpness=0.5)


def test_the_side_is_measured_upright_and_in_square_pixels():
    assert summarise([], 720, 576, Fraction(16, 15)).side_px == 576
    assert summarise([], 360, 480, Fraction(1)).side_px == 360
    assert summarise([], 352, 480, Fraction(20, 11)).aspect == pytest.approx(640 / 480)


@pytest.mark.parametrize(("score", "word"), [
    (Quality(200, 1.5, 1.0, 0.5), "shorter side"), (Quality(400, 3.5, 1.0, 0.5), "narrow"),
    (Quality(400, 1.5, 3.1, 0.5), "blocks"), (Quality(400, 1.5, 1.0, 0.1), "blurred"),
])
def test_each_limit_drops_with_its_reason(score: Quality, word: str):
    verdict = decide(score, LIMITS)
    assert not verdict.keep and verdict.reason.startswith("quality: ") and word in verdict.reason
    assert decide(Quality(400, 1.5, 1.0, 0.5), LIMITS).keep


def test_measuring_720p_takes_a_few_milliseconds():
    luma = cv2.resize(drawing(), (1280, 720))
    measure_look(luma)
    started = time.process_time()
    for _ in range(10):
        measure_look(luma)
    assert (time.process_time() - started) / 10 < 0.01  # measured 0.001; slower machines have room
