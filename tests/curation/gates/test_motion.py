"""Promise: drawn motion is kept however small, and stills are dropped even while the camera moves over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_films import FPS, HEIGHT, WIDTH, acted, defaults, painting, panned, still, survey_frames, view, with_ball, zoomed

from curation.config import MotionLimits
from curation.gates.motion import Motion, MotionKind, decide, measure_motion
from curation.holds import new_drawings

LIMITS = MotionLimits(enabled=True, min_drawn_share=0.2, max_mean=1.5, drop_pan_over_still=True)
DIAGONAL = float(np.hypot(WIDTH, HEIGHT))
DRAWN = Motion(kind=MotionKind.DRAWN, mean=0.1, drawn_mean=0.05, drawn_max=0.02, drawn_area=0.1, drawn_share=0.5,
               camera_mean=0.0, pan_x=0.0, pan_y=0.0, zoom=0.0)

Frames = list[np.ndarray]


def motion_of(folder: Path, frames: Frames) -> Motion:
    """The motion of a whole film of one shot, as a curation would measure it."""
    survey = survey_frames(folder, frames)
    new = new_drawings(survey.signals["change_peak"], survey.is_damaged)
    return measure_motion(survey.signals, new, 0, len(frames), len(frames) / FPS)


def noisy_still(seed: int, num_frames: int) -> Frames:
    """Grain of a few levels over a still."""
    ground = painting(seed).astype(np.int16)
    rng = np.random.default_rng(seed)
    return [np.clip(ground + rng.normal(0, 4, ground.shape).astype(np.int16), 0, 255).astype(np.uint8) for _ in range(num_frames)]


def talking(seed: int, num_frames: int) -> Frames:
    """A head that moves nothing but its mouth, 14x3 to 14x7 pixels, on twos."""
    head = with_ball(painting(seed), WIDTH / 2, HEIGHT / 2, radius=34, colour=(240, 200, 160))
    mouths = []
    for height in (3, 7, 5, 3, 6):
        mouths.append(head.copy())
        mouths[-1][66:66 + height, WIDTH // 2 - 7:WIDTH // 2 + 7] = (60, 10, 20)
    return [mouths[frame // 2 % len(mouths)] for frame in range(num_frames)]


def followed(seed: int, num_frames: int) -> Frames:
    """The camera follows a bouncing ball: the background passes by."""
    wide = painting(seed, WIDTH + 3 * num_frames + 8)
    return [with_ball(view(wide, shift=(3.0 * n, 0.0)), WIDTH / 2, 55 + 25 * np.cos(n / 3), radius=22) for n in range(num_frames)]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("shot", "kind"), [
    (still, MotionKind.STATIC), (noisy_still, MotionKind.STATIC), (acted, MotionKind.DRAWN), (talking, MotionKind.DRAWN),
    (panned, MotionKind.PAN), (zoomed, MotionKind.PAN), (followed, MotionKind.BOTH),
])
def test_kind_of_motion_is_what_was_drawn(shot: Callable[[int, int], Frames], kind: MotionKind, seed: int, tmp_path: Path
                                          ) -> None:
    motion = motion_of(tmp_path, shot(seed, 36))
    assert motion.kind is kind, motion
    assert decide(motion, defaults().gates.motion).keep is (kind in (MotionKind.DRAWN, MotionKind.BOTH))


def test_pan_has_its_direction_and_speed(tmp_path: Path) -> None:
    """3 pixels a frame to the right of 24 frames a second; the first frame brings no step."""
    motion = motion_of(tmp_path, panned(4, 48))
    per_s = 3 * FPS / DIAGONAL * 47 / 48
    assert motion.pan_x == pytest.approx(per_s, rel=0.05)            # the camera looks to the right
    assert motion.camera_mean == pytest.approx(per_s, rel=0.05)
    assert motion.pan_y == pytest.approx(0.0, abs=0.02 * per_s)
    assert abs(motion.zoom) < 0.02


def test_zoom_in_is_growth(tmp_path: Path) -> None:
    motion = motion_of(tmp_path, zoomed(5, 48, growth=0.02))
    assert motion.zoom == pytest.approx(0.02 * 47 / 2, rel=0.3)
    assert abs(motion.pan_x) + abs(motion.pan_y) < 0.02


def test_holds_do_not_change_the_share_of_drawings_nor_the_motion_a_second(tmp_path: Path) -> None:
    """The same drawings on twos last twice as long: half the motion a second, and half of the frames bring some."""
    on_ones = motion_of(tmp_path, acted(6, 24, hold=1))
    on_twos = motion_of(tmp_path, acted(6, 48, hold=2))
    assert on_ones.kind is on_twos.kind is MotionKind.DRAWN
    assert on_ones.drawn_share == pytest.approx(1.0, abs=0.05)
    assert on_twos.drawn_share == pytest.approx(23 / 47, abs=0.03)
    assert on_twos.drawn_mean == pytest.approx(on_ones.drawn_mean / 2, rel=0.1)
    assert on_twos.drawn_max == pytest.approx(on_ones.drawn_max, rel=0.2)


@pytest.mark.parametrize("shift", [0, 1])
def test_verdict_does_not_depend_on_where_within_a_hold_the_clip_begins(shift: int, tmp_path: Path) -> None:
    survey = survey_frames(tmp_path, acted(7, 50))
    new = new_drawings(survey.signals["change_peak"], survey.is_damaged)
    motion = measure_motion(survey.signals, new, shift, 48 + shift, 2.0)
    assert motion.kind is MotionKind.DRAWN and decide(motion, LIMITS).keep


def test_step_into_the_clip_does_not_count(tmp_path: Path) -> None:
    """A cut to a still: the change at its first frame belongs to the cut."""
    survey = survey_frames(tmp_path, acted(8, 24) + still(9, 24))
    new = new_drawings(survey.signals["change_peak"], survey.is_damaged)
    assert new[24]
    motion = measure_motion(survey.signals, new, 24, 48, 1.0)
    assert motion.kind is MotionKind.STATIC
    assert (motion.mean, motion.drawn_mean, motion.camera_mean, motion.drawn_share) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_clip_of_a_frame_or_two_is_measured(num_frames: int, tmp_path: Path) -> None:
    motion = motion_of(tmp_path, acted(1, num_frames))
    assert motion.kind is MotionKind.STATIC and not decide(motion, LIMITS).keep


@pytest.mark.parametrize(("changes", "reason"), [
    ({}, None),
    ({"kind": MotionKind.BOTH}, None),
    ({"kind": MotionKind.STATIC}, "motion: nothing moves"),
    ({"kind": MotionKind.PAN, "camera_mean": 0.25},
     "motion: the camera moves over a still picture (0.250 of the diagonal a second)"),
    ({"drawn_share": 0.125}, "motion: only 12.5% of the frames bring drawn motion < 20.0%"),
    ({"drawn_share": 0.2, "mean": 1.5}, None),               # limits themselves are allowed
    ({"mean": 2.0}, "motion: moves 2.00 of the diagonal a second > 1.50"),
])
def test_decision_names_the_limit_that_was_missed(changes: dict[str, float], reason: str | None) -> None:
    verdict = decide(replace(DRAWN, **changes), LIMITS)          # type: ignore[arg-type]
    assert (verdict.keep, verdict.gate, verdict.reason) == (reason is None, "motion", reason or "")


def test_pan_over_a_still_may_be_allowed() -> None:
    pan = replace(DRAWN, kind=MotionKind.PAN, drawn_share=0.0)
    assert decide(pan, replace(LIMITS, drop_pan_over_still=False)).keep
