"""Promise: shots end where the scene changes; flashes, cameras and what moves across the picture end none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawn_films import acted, blended, defaults, faded_in, faded_out, panned, still, survey_frames, wiped, zoomed
from hypothesis import given
from hypothesis import strategies as st

from curation.clips import Film, understand
from curation.graduals import Gradual, GradualKind
from curation.holds import new_drawings
from curation.shots import WINDOW, Shot, cut_probability, cut_scores, divide, find_shots
from curation.signals import Thumbs

Frames = list[np.ndarray]


def film_of(folder: Path, frames: Frames, *, trim_frames: int = 0) -> Film:
    return understand(survey_frames(folder, frames), defaults().curation.shots, trim_frames)


def starts_of(film: Film) -> list[int]:
    """First frames of all shots; here shots follow each other without gaps."""
    assert [shot.index for shot in film.shots] == list(range(len(film.shots)))
    assert [one.end for one in film.shots] == [*(other.start for other in film.shots[1:]), film.survey.num_frames]
    assert [shot.opened_by for shot in film.shots] == ["start"] + ["cut"] * (len(film.shots) - 1)
    return [shot.start for shot in film.shots]


@pytest.mark.parametrize(("one", "other"), [(still, still), (acted, acted), (still, acted), (panned, zoomed), (zoomed, panned)])
def test_cut_is_found_at_the_first_frame_of_the_new_scene(one: Callable[[int, int], Frames], other: Callable[[int, int], Frames],
                                                          tmp_path: Path) -> None:
    assert starts_of(film_of(tmp_path, one(1, 30) + other(2, 30) + one(3, 31))) == [0, 30, 60]


def test_cut_is_found_within_letterbox(tmp_path: Path) -> None:
    frames = []
    for picture in acted(1, 40) + acted(2, 40):
        frames.append(np.zeros_like(picture))
        frames[-1][18:-18] = picture[18:-18]
    assert starts_of(film_of(tmp_path, frames)) == [0, 40]


@pytest.mark.parametrize("scene", [still, acted])
def test_short_shot_between_two_cuts_is_found(scene: Callable[[int, int], Frames], tmp_path: Path) -> None:
    frames = scene(11, 30) + scene(21, 6) + scene(31, 30)
    assert starts_of(film_of(tmp_path, frames)) == [0, 30, 36]


@pytest.mark.parametrize("num_white", [1, 2, 3])
def test_flash_is_no_cut(num_white: int, tmp_path: Path) -> None:
    scene = acted(3, 60)
    white = [np.full_like(scene[0], 255)] * num_white
    assert starts_of(film_of(tmp_path, scene[:30] + white + scene[30:])) == [0]


def test_strobe_is_no_cut(tmp_path: Path) -> None:
    frames = [np.full_like(picture, 255) if 20 <= index < 60 and index % 4 < 2 else picture
              for index, picture in enumerate(acted(6, 80))]
    assert starts_of(film_of(tmp_path, frames)) == [0]


@pytest.mark.parametrize("shot", [panned, lambda seed, count: panned(seed, count, 8.0), zoomed,
                                  lambda seed, count: zoomed(seed, count, 0.03)])
def test_camera_is_no_cut(shot: Callable[[int, int], Frames], tmp_path: Path) -> None:
    assert starts_of(film_of(tmp_path, shot(2, 48))) == [0]


@pytest.mark.parametrize(("join", "kind"), [(blended, "dissolve"), (wiped, "wipe")])
def test_transition_opens_the_next_shot_and_its_frames_belong_to_none(join: Callable[..., Frames], kind: str, tmp_path: Path
                                                                      ) -> None:
    film = film_of(tmp_path, join(acted(1, 48), acted(2, 48), 16))          # frames 32..47 of 80
    before, after = film.shots
    assert (before.start, before.opened_by, after.end, after.opened_by) == (0, "start", 80, kind)
    assert abs(before.end - 32) <= 2 and abs(after.start - 48) <= 2


def test_fade_through_black_parts_two_shots(tmp_path: Path) -> None:
    film = film_of(tmp_path, faded_out(acted(7, 50), 16) + faded_in(acted(8, 50), 16))
    first, last = film.shots[0], film.shots[-1]
    assert abs(first.end - 34) <= 2 and abs(last.start - 66) <= 2
    assert last.opened_by == "fade_in"
    assert all(shot.end - shot.start <= 4 for shot in film.shots[1:-1])     # at most the black between them


def test_trimmed_frames_beside_a_transition_belong_to_no_shot(tmp_path: Path) -> None:
    survey = survey_frames(tmp_path, blended(acted(1, 48), acted(2, 48), 16))
    plain, trimmed = (understand(survey, defaults().curation.shots, trim).shots for trim in (0, 3))
    assert [shot.end for shot in trimmed] == [plain[0].end - 3, plain[1].end]
    assert [shot.start for shot in trimmed] == [0, plain[1].start + 3]


def test_empty_and_tiny_films_have_their_frames_in_one_shot(tmp_path: Path) -> None:
    survey = survey_frames(tmp_path, acted(1, 6))
    for count in (1, 2, 6):
        thumbs = Thumbs(survey.thumbs.luma[:count], survey.thumbs.u[:count], survey.thumbs.v[:count])
        signals = {name: values[:count] for name, values in survey.signals.items()}
        new = new_drawings(signals["change_peak"], survey.is_damaged[:count])
        assert find_shots(thumbs, signals, new, defaults().curation.shots, 1) == [Shot(0, 0, count, "start")]


def test_cut_is_judged_by_its_neighbourhood_not_by_the_whole_film(tmp_path: Path) -> None:
    """The same drawings with more film before or after them get the same scores, but for those within reach of the new ends."""
    survey = survey_frames(tmp_path, acted(1, 60) + acted(2, 60) + acted(3, 60))
    new = np.arange(180) % 2 == 0
    whole = cut_scores(survey.thumbs, survey.signals, new)
    start, end, reach = 40, 140, 2 * 20                      # a generous reach: 20 drawings on twos
    assert reach // 2 >= 2 * WINDOW
    part = slice(start, end)
    thumbs = Thumbs(survey.thumbs.luma[part], survey.thumbs.u[part], survey.thumbs.v[part])
    alone = cut_scores(thumbs, {name: values[part] for name, values in survey.signals.items()}, new[part])
    inside = (alone.frame >= reach) & (alone.frame < end - start - reach)
    same = (whole.frame >= start + reach) & (whole.frame < end - reach)
    assert inside.sum() == same.sum() > 5
    for spec in fields(alone):
        shift = start if spec.name == "frame" else 0
        np.testing.assert_allclose(getattr(alone, spec.name)[inside] + shift, getattr(whole, spec.name)[same], rtol=1e-9,
                                   err_msg=spec.name)
    likely = cut_probability(whole)
    assert set(whole.frame[np.argsort(likely)[-2:]].tolist()) == {60, 120}


GRADUALS = st.lists(st.tuples(st.integers(0, 119), st.integers(8, 40), st.sampled_from(list(GradualKind))), max_size=4)


@given(st.sets(st.integers(1, 119)), GRADUALS, st.integers(0, 5))
def test_every_frame_is_in_one_shot_or_in_a_transition(cuts: set[int], spans: list[tuple[int, int, GradualKind]], trim: int
                                                       ) -> None:
    graduals = [Gradual(kind, start, min(119, start + length), 1.0) for start, length, kind in spans]
    taken = np.zeros(120, bool)
    for gradual in graduals:
        taken[max(0, gradual.start - trim):gradual.end + 1 + trim] = True
    shots = divide(120, sorted(cuts), graduals, trim)
    owner = np.full(120, -1)
    for shot in shots:
        assert shot.end > shot.start
        assert (owner[shot.start:shot.end] == -1).all()
        owner[shot.start:shot.end] = shot.index
        assert not any(shot.start < cut < shot.end for cut in cuts)
    np.testing.assert_array_equal(owner == -1, taken)
    assert [shot.index for shot in shots] == list(range(len(shots)))
    assert all(one.end <= other.start for one, other in pairwise(shots))


def test_shot_says_what_opened_it() -> None:
    dissolve = Gradual(GradualKind.DISSOLVE, 20, 29, 1.0)
    assert divide(60, [10, 25, 45], [dissolve], 2) == [
        Shot(0, 0, 10, "start"), Shot(1, 10, 18, "cut"), Shot(2, 32, 45, "dissolve"), Shot(3, 45, 60, "cut")]
