"""Promise: what public pipelines get wrong about held animation, we do not.

The probes, 640x360 at 24 fps, x264 at CRF 16: an even-stride motion filter drops or keeps the same animation by its phase,
drops talking heads before a still background and keeps pans over paintings; content detectors cut held action apart.
"""

from functools import cache

import cv2
import numpy as np
import pytest
from decided import decide_pictures

from curation.gates.motion import MotionKind

SIZE = (640, 360)
INK, SKIN, COAT = (30, 24, 30), (236, 200, 170), (190, 60, 50)


@cache
def painting(width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray:
    """A textured background: soft coloured clouds with finer strokes."""
    rng = np.random.default_rng(7)
    coarse = cv2.resize(rng.uniform(60, 200, (height // 40, width // 40, 3)).astype(np.float32), (width, height),
                        interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.normal(0, 22, (height // 5, width // 5, 1)).astype(np.float32), (width, height))[..., None]
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def ball(picture: np.ndarray, centre: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
    place = round(centre[0]), round(centre[1])
    cv2.circle(picture, place, round(radius), colour, -1, cv2.LINE_AA)
    cv2.circle(picture, place, round(radius), INK, 3, cv2.LINE_AA)


def figure(background: np.ndarray, x: float, pose: int, *, y: float = 190) -> np.ndarray:
    """A large figure, about a third of the picture high, whose legs and arms swing with the pose."""
    picture = background.copy()
    swing = 26 * np.sin(pose * 1.9)
    for side in (-1, 1):
        cv2.line(picture, (round(x), round(y + 40)), (round(x + side * swing), round(y + 120)), INK, 12, cv2.LINE_AA)
        cv2.line(picture, (round(x), round(y)), (round(x - side * (swing + 40)), round(y + 30 * side)), INK, 10, cv2.LINE_AA)
    ball(picture, (x, y + 10), 52, COAT)
    ball(picture, (x, y - 66), 38, SKIN)
    ball(picture, (x + 12, y - 72), 7, INK)
    return picture


def exposed(drawings: list[np.ndarray], hold: int, count: int, phase: int = 0) -> list[np.ndarray]:
    """The first `count` frames when every drawing stays `hold` frames, the first one `phase` frames less."""
    return [drawings[(frame + phase) // hold] for frame in range(count)]


def bouncing(step: float, index: int, low: float = 90, high: float = 550) -> float:
    """A place that goes to and fro between two walls, `step` pixels at a time."""
    way = (index * step) % (2 * (high - low))
    return low + min(way, 2 * (high - low) - way)


@pytest.mark.parametrize("hold", [1, 2, 3])
def test_same_animation_gets_the_same_verdict_whatever_frame_it_begins_with(tmp_path, hold):
    drawings = [figure(painting(), 120 + 6 * index, index) for index in range(50)]
    for phase in range(hold):
        decided = decide_pictures(exposed(drawings, hold, 48, phase), tmp_path, name=f"phase{phase}.mkv")
        assert decided.kinds == [MotionKind.DRAWN], (hold, phase)
        assert [keep for keep, _ in decided.verdicts] == [True], (hold, phase)
        assert decided.clips[0].cadence == {1: "ones", 2: "twos", 3: "threes"}[hold]


@pytest.mark.parametrize("hold", [1, 2, 3])
def test_locked_off_talking_head_is_kept(tmp_path, hold):
    def head(index: int) -> np.ndarray:
        picture = figure(painting(), 320, 0)
        cv2.ellipse(picture, (326, 142), (14, 3 + 4 * (index * 7 % 3)), 0, 0, 360, INK, -1, cv2.LINE_AA)
        cv2.line(picture, (360, 210), (430, 190 + 14 * (index * 5 % 4)), COAT, 12, cv2.LINE_AA)
        return picture

    decided = decide_pictures(exposed([head(index) for index in range(48)], hold, 48), tmp_path)
    assert decided.kinds == [MotionKind.DRAWN]
    assert [keep for keep, _ in decided.verdicts] == [True]


def test_pan_over_a_still_painting_is_its_own_kind_and_dropped(tmp_path):
    wide = painting(SIZE[0] + 240)
    frames = [np.ascontiguousarray(wide[:, 4 * index : 4 * index + SIZE[0]]) for index in range(60)]
    decided = decide_pictures(frames, tmp_path)
    assert decided.kinds == [MotionKind.PAN]
    assert decided.verdicts == [(False, "motion")]


def test_still_painting_is_static(tmp_path):
    decided = decide_pictures([painting()] * 48, tmp_path)
    assert decided.kinds == [MotionKind.STATIC]


@pytest.mark.parametrize("step", [50, 70, 90])
@pytest.mark.parametrize("hold", [1, 2, 3])
def test_fast_action_on_held_drawings_is_not_cut_apart(tmp_path, step, hold):
    drawings = [figure(painting(), bouncing(step, index), index) for index in range(48 // hold)]
    decided = decide_pictures(exposed(drawings, hold, 48), tmp_path)
    assert decided.cuts == []
    assert len(decided.film.shots) == 1
