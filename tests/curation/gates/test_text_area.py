"""Promise: text is measured as the covered share of the picture, once per pixel, and text-free clips cost little."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.config import TextAreaLimits
from curation.gates.text_area import (
    MeasureTextArea,
    TextArea,
    covered_share,
    decide,
    letter_strokes,
    measure_text,
    text_possible,
)
from curation.ledger import Clip, Verdict
from curation.models.rapidocr import TextBox, TextReader


def box(x: float, y: float, width: float, height: float) -> TextBox:
    quad = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)
    return TextBox(quad, "words", 0.99)


def drawing(seed: int = 0) -> np.ndarray:
    """A BGR cel of outlined discs, 512x288, without text."""
    rng = np.random.default_rng(seed)
    bgr = np.full((288, 512, 3), (200, 170, 120), np.uint8)
    for _ in range(6):
        centre, radius = (int(rng.integers(512)), int(rng.integers(288))), int(rng.integers(25, 80))
        cv2.circle(bgr, centre, radius, tuple(int(v) for v in rng.integers(40, 250, 3)), -1, cv2.LINE_AA)
        cv2.circle(bgr, centre, radius, (20, 20, 20), 2, cv2.LINE_AA)
    return bgr


def lettered(bgr: np.ndarray, text: str, *, scale: float, colour: tuple[int, int, int], thick: int = 1) -> np.ndarray:
    return cv2.putText(bgr.copy(), text, (30, 240), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick, cv2.LINE_AA)


def jpeg(bgr: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", bgr)[1].tobytes()


SUBTITLE = lettered(drawing(), "I will never let you go", scale=0.7, colour=(255, 255, 255), thick=2)


class FakeReader:
    """Says for each picture, by its mean brightness, how large a share of it is text, and counts the calls."""

    def __init__(self, shares: list[float]) -> None:
        self.shares, self.calls = iter(shares), 0

    def __call__(self, bgr: np.ndarray) -> list[TextBox]:
        self.calls += 1
        share = next(self.shares)
        return [box(0, 0, bgr.shape[1] - 1, round(bgr.shape[0] * share) - 1)] if share else []


def clip(verdict: Verdict | None = None, start: int = 0) -> Clip:
    return Clip(
        source="film.mp4", sha256="0" * 64, title="film", shot_index=0, clip_index=0, start_frame=start,
        end_frame=start + 48, start_pts=0, end_pts=48, time_base=Fraction(1, 24), fps=24.0, holds=(2,) * 24,
        cadence="twos", survey_key="key", crop=(0, 0, 512, 288), verdict=verdict)


def test_overlapping_boxes_count_once():
    # Two boxes of 40x10 that share 20x10 pixels cover 60x10; outlines are filled including their border.
    share = covered_share([box(10, 10, 39, 9), box(30, 10, 39, 9)], height=100, width=100)
    assert share == pytest.approx(0.06)


def test_boxes_outside_the_picture_count_only_inside():
    assert covered_share([box(-50, -50, 1000, 1000)], height=100, width=100) == 1.0


def test_the_share_is_the_median_over_the_looks():
    looks = [jpeg(SUBTITLE)] * 3
    assert measure_text(looks, FakeReader([0.0, 0.5, 0.25])).share == pytest.approx(0.25, abs=0.01)


def test_one_false_reading_among_three_does_not_count():
    assert measure_text([jpeg(SUBTITLE)] * 3, FakeReader([0.0, 0.5, 0.0])) == TextArea(share=0.0, frames=3, skipped=0)


def test_two_equal_looks_settle_the_median_and_the_third_is_not_read():
    reader = FakeReader([0.0, 0.0, 0.5])
    assert measure_text([jpeg(SUBTITLE)] * 3, reader) == TextArea(share=0.0, frames=3, skipped=1)
    assert reader.calls == 2


def test_looks_without_letter_like_strokes_are_not_read():
    reader = FakeReader([0.5])
    looks = [jpeg(drawing(1)), jpeg(SUBTITLE), jpeg(drawing(2))]
    assert measure_text(looks, reader) == TextArea(share=0.0, frames=3, skipped=3)
    assert reader.calls == 0


def test_a_clip_without_looks_has_no_text():
    assert measure_text([], FakeReader([])) == TextArea(share=0.0, frames=0, skipped=0)


def test_a_broken_look_is_an_error_of_its_clip():
    with pytest.raises(ValueError, match="no readable JPEG"):
        measure_text([b"not a picture"], FakeReader([]))


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.2, 2.5])
@pytest.mark.parametrize(("paper", "ink"), [(0, 255), (255, 0), (120, 250)])
def test_the_cheap_look_passes_lettering_of_all_sizes_and_polarities(scale: float, paper: int, ink: int):
    page = np.full((288, 512, 3), paper, np.uint8)
    assert text_possible(lettered(page, "THE END" if scale > 2 else "directed by", scale=scale, colour=(ink,) * 3,
                                  thick=max(1, round(scale * 2))))


def test_the_cheap_look_turns_away_outlined_drawings_and_plain_pictures():
    assert not any(text_possible(drawing(seed)) for seed in range(10))
    assert letter_strokes(np.zeros((288, 512, 3), np.uint8)) == 0.0
    assert letter_strokes(np.zeros((1, 1, 3), np.uint8)) == 0.0


def test_a_dropped_clip_passes_by_unless_everything_is_measured():
    dropped = clip(Verdict.drop("motion", "nothing moves"))
    reads: list[Clip] = []

    def looks_of(one: Clip) -> list[bytes]:
        reads.append(one)
        return [jpeg(drawing(1))] * 3

    lazy = MeasureTextArea("store", read_jpegs=looks_of)
    assert lazy([dropped, clip()])[0] == [dropped] and len(reads) == 1
    thorough = MeasureTextArea("store", measure_all=True, read_jpegs=looks_of)
    assert thorough([dropped])[0][0].scores["text_area"] == TextArea(0.0, 3, 3)


def test_of_many_looks_the_first_the_middle_and_the_last_are_taken():
    taken = [drawing(seed) for seed in range(3)]
    looks = [jpeg(taken[0]), b"bad", jpeg(taken[1]), b"bad", jpeg(taken[2])]
    [[measured]] = MeasureTextArea("store", read_jpegs=lambda _: looks)([clip()])
    assert measured.scores["text_area"] == TextArea(0.0, 3, 3)


def test_a_clip_that_cannot_be_measured_is_dropped_with_the_reason():
    failed = MeasureTextArea("store").failed(clip(), "survey is gone")
    assert failed.verdict == Verdict(False, "text_area", "text_area: could not be measured: survey is gone")


def test_the_limit_decides():
    limits = TextAreaLimits(enabled=True, max=0.02)
    assert decide(TextArea(0.02, 3, 0), limits).keep
    assert decide(TextArea(0.021, 3, 0), limits).reason == "text_area: text covers 2.1% > 2.0% of the picture"


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def test_a_subtitle_is_read_and_measured_near_its_place(reader: TextReader):
    [line] = reader.read_text(SUBTITLE)
    assert line.text.replace(" ", "").lower() == "iwillneverletyougo"
    (width, height), baseline = cv2.getTextSize("I will never let you go", cv2.FONT_HERSHEY_SIMPLEX, 0.7, 2)
    # The outline surrounds the letters with some margin: between the letters themselves and twice their box.
    area = covered_share([line], height=288, width=512) * 288 * 512
    assert 0.8 * width * height < area < 2.0 * width * (height + baseline)
    assert line.quad[:, 1].min() > 240 - 3 * height and line.quad[:, 1].max() < 240 + 2 * baseline + height


def test_a_drawing_reads_as_nothing_and_equal_pixels_read_equally(reader: TextReader):
    assert reader.read_text(drawing(3)) == []
    first, second = reader.read_text(SUBTITLE), reader.read_text(SUBTITLE)
    assert [(line.text, line.score) for line in first] == [(line.text, line.score) for line in second]
    assert all(np.array_equal(one.quad, two.quad) for one, two in zip(first, second, strict=True))


def test_boxes_are_in_pixels_of_the_given_picture_however_large_it_is(reader: TextReader):
    large = cv2.resize(SUBTITLE, (1024, 576), interpolation=cv2.INTER_CUBIC)
    [small_line], [large_line] = reader.read_text(SUBTITLE), reader.read_text(large)
    np.testing.assert_allclose(large_line.quad, small_line.quad * 2, atol=8)


def test_tiny_pictures_are_answered_without_error(reader: TextReader):
    for shape in ((1, 1, 3), (6, 10, 3), (8, 512, 3)):
        assert reader.read_text(np.zeros(shape, np.uint8)) == []


def test_what_was_read_once_is_not_read_again(tmp_path: Path):
    title = [jpeg(lettered(drawing(), "THE WHISTLING BOAT", scale=1.5, colour=(255, 255, 255), thick=3))] * 3
    first = MeasureTextArea(str(tmp_path), read_jpegs=lambda _: title)
    first._read = lambda bgr: [box(10, 10, 200, 50)]
    again = MeasureTextArea(str(tmp_path), read_jpegs=lambda _: pytest.fail("the looks were opened again"))
    [[measured]], [[remembered]] = first([clip()]), again([clip()])
    assert measured.scores["text_area"].share > 0
    assert remembered == measured
