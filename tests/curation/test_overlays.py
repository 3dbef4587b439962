"""Promise: a logo and hard subtitles are located where they stay while the picture changes, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from ledger_rows import PROBE, make_clip, make_record, make_store

from curation.config import OverlaysMode
from curation.gates.credits import Credits, CreditsKind
from curation.gates.motion import Motion, MotionKind
from curation.gates.text_area import TextArea
from curation.ledger import Box, Clip, Overlays, Status, Verdict
from curation.overlays import (
    FindOverlays,
    apply_overlays,
    cropped,
    find_logo,
    largest_rest,
    locate_subtitles,
    turned,
)

WIDTH, HEIGHT = 256, 144
LOGO = (206, 10, 240, 24)                # x0, y0, x1, y1 in pixels
SLACK_PX = 4.2                           # by which a box may be larger: 1.2 % of the width and a pixel of gradient


def scene(seed: int, width: int = WIDTH) -> np.ndarray:
    """Luma of a cel of outlined discs."""
    rng = np.random.default_rng(seed)
    luma = np.full((HEIGHT, width), int(rng.integers(60, 230)), np.uint8)
    for _ in range(14):
        centre, radius = (int(rng.integers(width)), int(rng.integers(HEIGHT))), int(rng.integers(8, 50))
        cv2.circle(luma, centre, radius, int(rng.integers(30, 250)), -1)
        cv2.circle(luma, centre, radius, 20, 1)
    return luma


def marked(luma: np.ndarray, alpha: float) -> np.ndarray:
    """The picture under a logo: three bright bars of this opacity."""
    x0, y0, x1, y1 = LOGO
    shown = luma.astype(np.float32)
    for row in range(y0, y1, 5):
        shown[row : row + 3, x0:x1] = (1 - alpha) * shown[row : row + 3, x0:x1] + alpha * 240
    return np.rint(shown).astype(np.uint8)


def line(width: float, top: float = 0.85, centre: float = 0.5, height: float = 0.06) -> Box:
    return (centre - width / 2, top, centre + width / 2, top + height)


def clip_with(*looks: tuple[Box, ...] | None, kind: MotionKind = MotionKind.DRAWN, index: int = 0,
              credits: CreditsKind = CreditsKind.NONE) -> Clip:
    """A clip of film.mkv whose looks show these lines of text."""
    shares = sorted(sum((box[2] - box[0]) * (box[3] - box[1]) for box in look or ()) for look in looks)
    clip = make_clip(index=index, verdict=None, text_boxes=looks)
    clip = clip.with_score("motion", Motion(kind, 0.05, 0.04, 0.02, 0.1, 0.5, 0.0, 0.0, 0.0, 0.0))
    clip = clip.with_score("credits", Credits(credits, 1.0 if credits is not CreditsKind.NONE else 0.0, 1.0, 0.0))
    return clip.with_score("text_area", TextArea(shares[len(shares) // 2] if shares else 0.0, len(looks), 0, 1))


@pytest.mark.parametrize("alpha", [1.0, 0.6, 0.4])
def test_logo_is_found_over_changing_scenes_also_where_it_is_half_transparent(alpha: float) -> None:
    found = find_logo([marked(scene(seed), alpha) for seed in range(16)])
    assert found is not None
    box = np.array(found) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    assert np.abs(box - LOGO).max() <= SLACK_PX


def test_scenes_without_a_logo_have_none() -> None:
    for first in range(0, 80, 16):
        assert find_logo([scene(seed) for seed in range(first, first + 16)]) is None


def test_one_scene_proves_no_logo_however_often_it_is_looked_at() -> None:
    assert find_logo([marked(scene(1), 1.0)] * 40) is None
    assert find_logo([marked(scene(seed), 1.0) for seed in range(4)] * 10) is None


def test_logo_over_half_of_the_film_is_none() -> None:
    # Nine of sixteen: the median picture has it, too few have it to tell it from a background that comes back.
    assert find_logo([marked(scene(seed), 1.0 if seed < 9 else 0.0) for seed in range(16)]) is None


def test_corner_that_stays_because_everything_does_is_no_logo() -> None:
    static = [marked(scene(seed), 1.0) for seed in range(16)]
    for luma in static:
        for column in range(90, 170, 8):
            cv2.line(luma, (column, 50), (column, 100), 250, 2)
    assert find_logo(static) is None


def test_frame_around_every_picture_is_no_logo() -> None:
    framed = [scene(seed) for seed in range(16)]
    for luma in framed:
        cv2.rectangle(luma, (12, 10), (WIDTH - 12, HEIGHT - 10), 250, 2)
    assert find_logo(framed) is None


def test_logo_beside_black_bars_is_found_and_the_bars_are_not() -> None:
    bar = 10
    narrow = [scene(seed, WIDTH - 2 * bar) for seed in range(16)]
    pillar = [cv2.copyMakeBorder(luma, 0, 0, bar, bar, cv2.BORDER_CONSTANT, value=(16,)) for luma in narrow]
    content = (bar / WIDTH, 0.0, 1 - bar / WIDTH, 1.0)
    assert find_logo(pillar, content) is None
    found = find_logo([marked(luma, 0.8) for luma in pillar], content)
    assert found is not None
    assert np.abs(np.array(found) * (WIDTH, HEIGHT, WIDTH, HEIGHT) - LOGO).max() <= SLACK_PX


def test_lines_whose_words_change_at_one_place_are_subtitles() -> None:
    aside = (line(0.5, centre=0.55),), (line(0.55, centre=0.55),)      # not where a line that only stays would prove it
    assert locate_subtitles([clip_with(*aside)]) == pytest.approx((0.85 - 0.012, 0.91 + 0.012))
    two_lines = clip_with((line(0.5, 0.80), line(0.4, 0.87)), index=1)
    assert locate_subtitles([clip_with((line(0.5, 0.87),)), two_lines]) == pytest.approx((0.788, 0.942))


def test_lines_that_stay_while_the_camera_moves_are_subtitles_and_a_sign_in_the_scene_is_none() -> None:
    aside = (line(0.3, centre=0.6),)
    assert locate_subtitles([clip_with(aside, aside, kind=MotionKind.PAN)]) is not None
    assert locate_subtitles([clip_with(aside, aside)]) is None
    exactly_centred = (line(0.3),)
    assert locate_subtitles([clip_with(exactly_centred, exactly_centred)]) is not None


def test_still_pictures_credits_single_looks_and_text_elsewhere_prove_no_subtitles() -> None:
    words = ((line(0.5),), (line(0.62),))
    assert locate_subtitles([clip_with(*words, kind=MotionKind.STATIC)]) is None
    assert locate_subtitles([clip_with(*words, credits=CreditsKind.ROLL)]) is None
    assert locate_subtitles([clip_with((line(0.5),), None, ())]) is None
    assert locate_subtitles([clip_with((line(0.5, 0.3),), (line(0.62, 0.3),))]) is None
    assert locate_subtitles([clip_with((line(0.5, 0.75),), (line(0.62, 0.90),))]) is None      # at different heights
    assert locate_subtitles([]) is None


def test_crop_takes_the_band_off_the_foot_and_the_text_with_it() -> None:
    clip = replace(clip_with((line(0.5),), (line(0.62),)), overlays=Overlays(subtitles=(0.8, 0.95)))
    found = cropped(clip, PROBE)
    assert found.crop == (0, 0, 640, 288)               # 80 % of 360 rows
    assert found.scores["text_area"].share == 0.0 and clip.scores["text_area"].share > 0.03
    assert found.scores["quality"].side_px == 288


def test_crop_takes_the_cheapest_side_off_for_a_logo() -> None:
    # Cutting the right 15 % leaves more than cutting the upper 20 %.
    assert largest_rest((0.0, 0.0, 1.0, 1.0), Overlays(logo=(0.85, 0.05, 0.95, 0.2))) == (0.0, 0.0, 0.85, 1.0)
    assert largest_rest((0.0, 0.0, 1.0, 1.0), Overlays(logo=(0.6, 0.05, 0.9, 0.1))) == (0.0, 0.1, 1.0, 1.0)


def test_crop_that_would_leave_less_than_seven_tenths_is_not_made() -> None:
    whole = (0.0, 0.0, 1.0, 1.0)
    assert largest_rest(whole, Overlays(subtitles=(0.65, 0.95))) is None
    # Both together would leave 0.8 * 0.85; the band alone leaves 0.8, the logo alone 0.85.
    assert largest_rest(whole, Overlays((0.85, 0.1, 0.95, 0.4), (0.8, 0.95))) == (0.0, 0.0, 0.85, 1.0)
    assert largest_rest(whole, Overlays()) is None


def test_crop_stays_inside_the_black_bars() -> None:
    clip = replace(clip_with((line(0.5),), (line(0.62),)), crop=(80, 0, 480, 360), overlays=Overlays(subtitles=(0.8, 0.95)))
    assert cropped(clip, PROBE).crop == (80, 0, 480, 288)
    below = replace(clip, crop=(0, 30, 640, 250))       # the subtitles stand in the lower bar, at 288 of 360
    assert cropped(below, PROBE) == below


def test_crop_of_a_film_that_lies_on_its_side_is_made_in_coded_pixels() -> None:
    # Turned by 90 degrees clockwise, the lower edge of the upright picture is the right edge of the coded one.
    probe = replace(PROBE, rotation_deg=90, sample_aspect=Fraction(1))
    clip = replace(clip_with(), overlays=Overlays(subtitles=(0.75, 0.9)))
    assert cropped(clip, probe).crop == (0, 0, 480, 360)
    assert turned(turned((0.1, 0.2, 0.3, 0.6), 90), -90) == pytest.approx((0.1, 0.2, 0.3, 0.6))


def test_modes_keep_crop_or_drop_and_always_tell_where_the_overlays_are() -> None:
    subtitled, plain = clip_with((line(0.5),), (line(0.62),)), clip_with((), index=1)
    band = locate_subtitles([subtitled])
    for mode in OverlaysMode:
        [record], [one, other] = apply_overlays([make_record()], [plain, subtitled], mode)
        assert record.overlays == one.overlays == other.overlays == Overlays(None, band)
        assert (one.crop != subtitled.crop) is (other.crop != plain.crop) is (mode is OverlaysMode.CROP)
        dropped = Verdict.drop("overlays", "subtitles lie over the picture") if mode is OverlaysMode.DROP else None
        assert (one.verdict, other.verdict) == (dropped, None)


def test_logo_drops_every_clip_of_its_film_that_no_gate_dropped_before() -> None:
    record = make_record(overlays=Overlays(logo=(0.8, 0.1, 0.9, 0.2)))
    gone = make_clip(index=1, dropped_by="motion")
    _, [one, other] = apply_overlays([record], [clip_with(()), gone], OverlaysMode.DROP)
    assert one.verdict == Verdict.drop("overlays", "a logo lies over the film")
    assert other.verdict == gone.verdict


def test_stage_looks_once_per_film_and_leaves_what_is_no_film_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path, ["film.mkv"], [0, 24, 48])
    stage = FindOverlays(str(store.root))
    bad = make_record("notes.txt", status=Status.QUARANTINED, survey_key="")
    assert stage([make_record(), bad]) == [[make_record(overlays=Overlays())], [bad]]
    failed = stage.failed(make_record(note="damaged"), "looks are gone")
    assert (failed.status, failed.note) == (Status.OK, "damaged; no logo could be looked for: looks are gone")
