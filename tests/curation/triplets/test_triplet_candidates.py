"""Promise: a triplet is three different drawings at equal spacing within one clip, and a shot gives no more than asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from triplet_films import MadeClip

from curation.triplets.candidates import Candidate, choose, propose, repeats_a_drawing
from curation.triplets.clips import TripletClip
from curation.triplets.config import CandidatesConfig, Unit


def config(unit: Unit = Unit.DRAWINGS, spacings: tuple[int, ...] = (1, 2, 3), per_shot: int = 1, stride: int = 1,
           seed: int = 0) -> CandidatesConfig:
    return CandidatesConfig(unit=unit, spacings=list(spacings), stride=stride, per_shot=per_shot, seed=seed)


def clip(start_frame: int = 0, shot: int = 0, holds: tuple[int, ...] = (1,) * 20) -> TripletClip:
    made = MadeClip("a.mp4", "a", "train", shot, start_frame, holds)
    return TripletClip(made.key, made.split, made.title, made.source, made.sha256, shot, start_frame, 0.0, 24.0, holds, "")


def test_drawings_are_shown_by_the_first_frame_of_their_hold() -> None:
    found = propose((2, 3, 1, 4, 2), config(spacings=(1, 2)))
    # The drawings begin at frames 0, 2, 5, 6 and 10.
    assert found == [Candidate((0, 2, 5), 1), Candidate((0, 5, 10), 2), Candidate((2, 5, 6), 1), Candidate((5, 6, 10), 1)]


def test_raw_frames_are_counted_as_atd_12k_did() -> None:
    found = propose((2, 3), config(Unit.FRAMES, (1, 2)))
    assert [one.frames for one in found] == [(0, 1, 2), (0, 2, 4), (1, 2, 3), (2, 3, 4)]


@pytest.mark.parametrize("holds", [(1,), (3, 2), (40, 1)])
def test_fewer_than_three_drawings_give_no_candidate(holds: tuple[int, ...]) -> None:
    assert propose(holds, config()) == []


def test_a_stride_leaves_starts_out() -> None:
    assert [one.frames[0] for one in propose((1,) * 9, config(spacings=(1,), stride=3))] == [0, 3, 6]


@pytest.mark.parametrize("holds", [(2, 3, 1, 4, 2), (1,) * 12, (7, 1, 7, 1, 7, 1)])
def test_drawings_never_repeat_in_a_candidate_and_raw_frames_do(holds: tuple[int, ...]) -> None:
    assert not any(repeats_a_drawing(one, holds) for one in propose(holds, config()))
    raw = propose(holds, config(Unit.FRAMES, (1,)))
    assert any(repeats_a_drawing(one, holds) for one in raw) is (max(holds) > 1)


def test_a_shot_gives_one_even_where_it_was_divided_into_clips() -> None:
    clips = [clip(0), clip(20), clip(60, shot=1)]
    passing = [(one, candidate) for one in clips for candidate in propose(one.holds, config())]
    chosen = choose(passing, config())
    assert sorted(one.shot for one, _ in chosen) == [0, 1]


def test_several_of_a_shot_share_no_stretch_of_film() -> None:
    passing = [(clip(), candidate) for candidate in propose((1,) * 20, config())]
    chosen = sorted(candidate.frames for _, candidate in choose(passing, config(per_shot=4)))
    assert 2 <= len(chosen) <= 4
    assert all(before[2] < after[0] for before, after in pairwise(chosen))


def test_zero_gives_all_that_pass() -> None:
    passing = [(clip(), candidate) for candidate in propose((1,) * 20, config())]
    assert choose(passing, config(per_shot=0)) == passing


def test_what_a_shot_gives_depends_on_no_other_film_but_on_the_seed() -> None:
    one = [(clip(), candidate) for candidate in propose((1,) * 20, config())]
    other = [(clip(60, shot=1), candidate) for candidate in propose((1,) * 20, config())]
    alone = choose(one, config())
    assert alone[0] in choose(other + one, config())
    assert len({choose(one, config(seed=seed))[0][1] for seed in range(12)}) > 3


@pytest.mark.parametrize("wrong", [{"spacings": []}, {"spacings": [0, 1]}, {"spacings": [1, 1]}, {"stride": 0}, {"per_shot": -1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"candidates.{next(iter(wrong))}="):
        CandidatesConfig(**{"unit": Unit.DRAWINGS, "spacings": [1], "stride": 1, "per_shot": 1, "seed": 0, **wrong})  # type: ignore[arg-type]
