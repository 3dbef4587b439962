"""Promise: a frame's signals are what they are named after, and do not depend on depth, format or black bars."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from drawn_films import HEIGHT, WIDTH, acted, painting, with_ball
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detectors import ContentDetector

from curation.signals import THUMB_H, THUMB_W, FrameMeter, FrameSignals, LitBox, Thumbs, correlation, fine_drawing, shrink_factor

SIGNAL_PX = 240


def frame_of(picture: np.ndarray, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)


def measured(*pictures: np.ndarray, pix_fmt: str = "yuv420p") -> list[FrameSignals]:
    meter = FrameMeter(pictures[0].shape[1], pictures[0].shape[0], SIGNAL_PX)
    return [meter.measure(frame_of(picture, pix_fmt)) for picture in pictures]


def planes_of(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, u and v of the picture in yuv420p."""
    packed = frame_of(picture).to_ndarray()
    flat = packed[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    return packed[:HEIGHT], flat[0], flat[1]


def test_first_frame_and_a_held_one_show_no_change() -> None:
    for signals in measured(painting(1), painting(1)):
        assert (signals.change_mean, signals.change_peak, signals.change_area, signals.content) == (0.0, 0.0, 0.0, 0.0)
        assert signals.structure == pytest.approx(1.0)
        assert signals.histogram == pytest.approx(1.0)


def test_change_of_light_is_measured_in_grey_levels() -> None:
    grey = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    before, after = measured(grey, grey + 70)
    # Limited-range luma spreads 255 levels of RGB over 219.
    assert after.luma_mean - before.luma_mean == pytest.approx(70 * 219 / 255, abs=1)
    assert after.change_mean == pytest.approx(70 * 219 / 255, abs=1)
    assert after.change_area == 1.0
    assert after.luma_std == pytest.approx(0.0, abs=0.5)
    assert after.detail == pytest.approx(0.0, abs=0.5)


def test_blink_is_seen_in_the_peak_and_not_in_the_mean() -> None:
    face = painting(2)
    blink = face.copy()
    blink[40:46, 80:86] = 255 - blink[40:46, 80:86] // 2           # 36 of 20736 pixels
    after = measured(face, blink)[1]
    assert after.change_peak > 20
    assert after.change_mean < 0.5
    assert 0 < after.change_area < 0.01


def test_change_of_colour_alone_is_seen() -> None:
    one = np.full((HEIGHT, WIDTH, 3), (180, 100, 90), np.uint8)
    other = one.copy()
    other[30:60, 60:120] = (90, 135, 160)                          # luma by BT.601: 122.8 and 124.4
    after = measured(one, other)[1]
    assert after.change_mean < 1.0
    assert after.change_peak > 25


@pytest.mark.parametrize(("deep", "plain"), [("yuv420p10le", "yuv420p"), ("yuv422p10le", "yuv422p"), ("yuv444p12le", "yuv444p")])
def test_deep_colour_gives_the_signals_of_8_bit(deep: str, plain: str) -> None:
    """The lower bits are cut off, where 8 bit were rounded: at most one level apart."""
    pictures = acted(3, 6)
    for one, other in zip(measured(*pictures, pix_fmt=deep), measured(*pictures, pix_fmt=plain), strict=True):
        for name in ("luma_mean", "luma_std", "change_mean", "change_peak"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1.0), name
        assert one.structure == pytest.approx(other.structure, abs=0.01)
        thumbs = [np.frombuffer(signals.thumb, np.uint8).astype(int) for signals in (one, other)]
        assert np.abs(thumbs[0] - thumbs[1]).max() <= 2


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgra", "yuv444p", "nv12", "yuyv422"])
def test_pixel_formats_agree(pix_fmt: str) -> None:
    pictures = acted(4, 4)
    for one, other in zip(measured(*pictures, pix_fmt=pix_fmt), measured(*pictures), strict=True):
        assert one.luma_mean == pytest.approx(other.luma_mean, abs=1.0)
        assert one.change_peak == pytest.approx(other.change_peak, abs=2.5)


def test_grey_film_has_neutral_colour() -> None:
    thumbs = Thumbs.unpack(np.frombuffer(measured(painting(5), pix_fmt="gray")[0].thumb, np.uint8)[None])
    assert (thumbs.u == 128).all() and (thumbs.v == 128).all()


@pytest.mark.parametrize("size", [(16, 16), (2, 2), (1, 1), (7, 300), (31, 17), (4000, 8)])
def test_pictures_of_any_size_are_measured(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    signals = measured(picture, 255 - picture, pix_fmt="yuv444p")[1]
    assert len(signals.thumb) == THUMB_W * THUMB_H * 3 // 2
    assert signals.change_peak > 0


def test_content_values_are_those_of_pyscenedetect() -> None:
    """Fed with the same small pictures, its own detector and statistics say the same."""
    pictures = [*acted(6, 6), *acted(7, 3)]
    detector, statistics = ContentDetector(), StatsManager()
    detector.stats_manager = statistics
    for index, picture in enumerate(pictures):
        luma, u, v = planes_of(picture)
        half = cv2.resize(luma, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        detector.process_frame(FrameTimecode(index, 24.0), cv2.cvtColor(cv2.merge([half, v, u]), cv2.COLOR_YCrCb2BGR))
    for index, signals in list(enumerate(measured(*pictures)))[1:]:
        theirs = statistics.get_metrics(FrameTimecode(index, 24.0), ["content_val", "delta_hue", "delta_sat", "delta_lum"])
        assert [signals.content, signals.content_hue, signals.content_sat, signals.content_lum] == pytest.approx(theirs, rel=1e-6)


def test_structure_survives_light_and_not_a_new_scene() -> None:
    scene = painting(8)
    darker = cv2.convertScaleAbs(scene, alpha=0.6)
    _, dark, other = measured(scene, darker, painting(9))
    assert dark.structure > 0.9
    assert other.structure < 0.3


def test_two_flat_pictures_have_the_same_structure() -> None:
    flat = fine_drawing(np.full((40, 60), 90, np.uint8))
    assert correlation(flat, fine_drawing(np.full((40, 60), 30, np.uint8))) == pytest.approx(1.0)
    assert correlation(flat, fine_drawing(cv2.cvtColor(painting(1), cv2.COLOR_RGB2GRAY)[:40, :60])) < 0.3


@pytest.mark.parametrize("seed", [1, 3, 10])
def test_bars_hide_less_of_a_new_scene_than_they_would(seed: int) -> None:
    """The edges of the bars stay where they are: in the whole picture they look like carried-over drawing."""
    framed = []
    for picture in [*acted(seed, 20), *acted(seed + 1, 2)]:
        framed.append(np.zeros_like(picture))
        framed[-1][20:-20, 30:-30] = picture[20:-20, 30:-30]
    halves = [cv2.resize(planes_of(picture)[0], (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
              for picture in framed[19:21]]
    whole = correlation(*(fine_drawing(half.astype(np.uint8)) for half in halves))
    assert measured(*framed)[20].structure < whole - 0.1


def test_lit_box_grows_to_the_picture_and_ignores_a_dark_one() -> None:
    box = LitBox((96, 54))
    dark, lit = np.full((54, 96), 16, np.uint8), np.full((54, 96), 16, np.uint8)
    lit[7:47] = 120
    assert [box.update(dark, index) for index in range(3)][-1] == (slice(0, 54), slice(0, 96))
    assert [box.update(lit, index) for index in range(3, 12)][-1] == (slice(7, 47), slice(0, 96))


@pytest.mark.parametrize(("width", "factor"), [(160, 1), (240, 1), (320, 2), (480, 2), (720, 4), (960, 4), (1280, 6), (1920, 8)])
def test_shrink_factor_is_1_or_even_and_comes_nearest(width: int, factor: int) -> None:
    """720 pixels: 180 is 60 away from 240, 360 is 120 away. 320: 160 is as near as 320, and cheaper."""
    assert shrink_factor(width, SIGNAL_PX) == factor


def test_thumbnails_come_back_from_their_bytes_without_the_bars() -> None:
    packed = np.stack([np.frombuffer(signals.thumb, np.uint8) for signals in measured(*acted(1, 4))])
    whole = Thumbs.unpack(packed)
    assert (whole.luma.shape, whole.u.shape, whole.v.shape) == ((4, 18, 32), (4, 9, 16), (4, 9, 16))
    np.testing.assert_array_equal(whole.luma[2].ravel(), packed[2, :18 * 32])
    np.testing.assert_array_equal(whole.v[3].ravel(), packed[3, -9 * 16:])
    # Left eighth and upper third are bars: 4 of 32 columns and 6 of 18 rows, 2 of 16 and 3 of 9 in the chroma.
    boxed = Thumbs.unpack(packed, (1 / 8, 1 / 3, 1.0, 1.0))
    np.testing.assert_array_equal(boxed.luma, whole.luma[:, 6:, 4:])
    np.testing.assert_array_equal(boxed.u, whole.u[:, 3:, 2:])


def test_thumbnail_shows_the_picture() -> None:
    ball = with_ball(np.full((HEIGHT, WIDTH, 3), 30, np.uint8), 48, 81, radius=24, colour=(255, 255, 255))
    thumb = Thumbs.unpack(np.frombuffer(measured(ball)[0].thumb, np.uint8)[None]).luma[0]
    row, column = np.unravel_index(thumb.argmax(), thumb.shape)
    assert (column, row) == (pytest.approx(48 / WIDTH * THUMB_W, abs=4), pytest.approx(81 / HEIGHT * THUMB_H, abs=4))
