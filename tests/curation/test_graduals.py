"""Promise: fades, dissolves and wipes are found where they are, and a moving camera or character is none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from drawn_films import acted, blended, defaults, faded_in, faded_out, panned, still, wiped, zoomed

from curation.graduals import Gradual, GradualKind, find_graduals
from curation.signals import THUMB_H, THUMB_W, Thumbs

TOLERANCE = 2                # frames: the first and last share of a blend changes less than coding does

Join = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], int], list[np.ndarray]]


def thumbs_of(frames: Sequence[np.ndarray]) -> Thumbs:
    """What the survey keeps of pictures, limited range."""
    planes: list[list[np.ndarray]] = [[], [], []]
    known: dict[int, list[np.ndarray]] = {}
    for picture in frames:
        if id(picture) not in known:
            y, v, u = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb))
            luma = cv2.resize(y, (THUMB_W, THUMB_H), interpolation=cv2.INTER_AREA) * (219 / 255) + 16
            chroma = [cv2.resize(plane, (THUMB_W // 2, THUMB_H // 2), interpolation=cv2.INTER_AREA) for plane in (u, v)]
            known[id(picture)] = [luma.astype(np.uint8), *chroma]
        for plane, value in zip(planes, known[id(picture)], strict=True):
            plane.append(value)
    return Thumbs(*(np.stack(plane) for plane in planes))


def graduals_in(frames: Sequence[np.ndarray]) -> list[Gradual]:
    return find_graduals(thumbs_of(frames), defaults().curation.shots.graduals)


def assert_near(gradual: Gradual, kind: GradualKind, start: int, end: int) -> None:
    assert gradual.kind is kind
    assert abs(gradual.start - start) <= TOLERANCE, gradual
    assert abs(gradual.end - end) <= TOLERANCE, gradual


@pytest.mark.parametrize("scene", [still, acted])
@pytest.mark.parametrize("num_frames", [12, 16, 24])
@pytest.mark.parametrize("seed", [1, 4, 6])
@pytest.mark.parametrize(("join", "kind"), [(blended, GradualKind.DISSOLVE), (wiped, GradualKind.WIPE)])
def test_dissolve_and_wipe_are_found_in_their_place(join: Join, kind: GradualKind, seed: int, num_frames: int,
                                                    scene: Callable[[int, int], list[np.ndarray]]) -> None:
    frames = join(scene(seed, 50), scene(seed + 1, 50), num_frames)
    [gradual] = graduals_in(frames)
    assert_near(gradual, kind, 50 - num_frames, 49)


@pytest.mark.parametrize("num_frames", [12, 16, 24])
def test_fades_are_found_in_their_place(num_frames: int) -> None:
    frames = faded_out(acted(7, 50), num_frames) + faded_in(acted(8, 50), num_frames)
    out, into = graduals_in(frames)
    assert_near(out, GradualKind.FADE_OUT, 50 - num_frames, 49)
    assert_near(into, GradualKind.FADE_IN, 50, 50 + num_frames - 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shot", [still, acted, panned, zoomed, lambda seed, count: panned(seed, count, 8.0),
                                  lambda seed, count: zoomed(seed, count, 0.02)])
def test_camera_and_drawn_motion_are_no_transition(shot: Callable[[int, int], list[np.ndarray]], seed: int) -> None:
    assert graduals_in(shot(seed, 70)) == []


def test_cut_and_flash_are_no_transition() -> None:
    scene = acted(3, 60)
    white = [np.full_like(scene[0], 255)]
    assert graduals_in(scene + acted(5, 40)) == []
    assert graduals_in(scene[:30] + 3 * white + scene[30:]) == []


def test_flicker_of_light_that_comes_back_is_no_fade() -> None:
    lamp = [cv2.convertScaleAbs(picture, alpha=0.75 + 0.25 * np.cos(2 * np.pi * k / 24))
            for k, picture in enumerate(still(2, 72))]
    assert graduals_in(lamp) == []


def test_two_transitions_after_each_other_are_two() -> None:
    first = blended(acted(1, 50), acted(2, 60), 16)                  # 34..49 of 94
    frames = wiped(first, acted(3, 50), 16)                          # 78..93
    dissolve, wipe = graduals_in(frames)
    assert_near(dissolve, GradualKind.DISSOLVE, 34, 49)
    assert_near(wipe, GradualKind.WIPE, 78, 93)


@pytest.mark.parametrize("num_frames", [0, 1, 9, 12])
def test_film_too_short_for_a_transition_has_none(num_frames: int) -> None:
    whole = thumbs_of(acted(1, 12))
    part = Thumbs(whole.luma[:num_frames], whole.u[:num_frames], whole.v[:num_frames])
    assert find_graduals(part, defaults().curation.shots.graduals) == []


def test_result_does_not_depend_on_how_a_long_film_is_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = blended(acted(1, 50), acted(2, 60), 16) + faded_out(acted(3, 60), 20)
    whole = graduals_in(frames)
    monkeypatch.setattr("curation.graduals.CHUNK", 7)
    assert graduals_in(frames) == whole
    assert len(whole) == 2
