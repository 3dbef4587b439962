"""Promise: whole titles go to training or to evaluation, never both, and later films move only the border."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_rows import make_clip

from curation.config import SplitConfig
from curation.gates.duplicates import Duplicates
from curation.ledger import Clip
from curation.split import assign_splits, title_of

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def config(share: float = 0.1, seed: int = 0) -> SplitConfig:
    return SplitConfig(eval_share=share, seed=seed, title_pattern="")


def films(sizes: list[int], prefix: str = "film") -> list[Clip]:
    """Films of so many clips each."""
    return [make_clip(f"{prefix}{number}", index) for number, size in enumerate(sizes) for index in range(size)]


def split_of_titles(clips: list[Clip], share: float = 0.1, *, seed: int = 0, duplicates: dict[str, Duplicates] | None = None
                    ) -> dict[str, str]:
    """The split of each title; fails where clips of one title are in both."""
    splits = assign_splits(clips, duplicates or {}, config(share, seed))
    assert set(splits) == {clip.key for clip in clips}
    found: dict[str, str] = {}
    for clip in clips:
        assert found.setdefault(clip.title, splits[clip.key]) == splits[clip.key], clip.title
    return found


@pytest.mark.parametrize(("name", "title"), [
    ("harbour_tales_s01e02.mp4", "harbour tales"), ("Harbour Tales S01E01.mkv", "harbour tales"),
    ("Harbour Tales - 1x07.mkv", "harbour tales"), ("[Group] Harbour Tales - 03 [1080p].mkv", "harbour tales"),
    ("Up (2009) 1080p BluRay x264.mkv", "up"), ("Film Part 2.avi", "film"), ("film v2 10bit.mkv", "film"),
    ("film copy.mkv", "film"), ("pack.zip!/reels/the_tall_hat.mp4", "the tall hat"),
    ("Blue Bird/001.mp4", "blue bird"), ("Blue Bird/disc 1/001.mp4", "blue bird"), ("scene/frame_*.png", "scene"),
    ("Blue Bird/S01E02.mkv", "blue bird"), ("Blue Bird/Season 1/E02.mkv", "blue bird"), ("Blue Bird/s02/ep. 3.mkv", "blue bird"),
    ("101 Dalmatians.mp4", "101 dalmatians"), ("Type 2.mkv", "type"), ("frame_*.png", "frame *"),
    ("Robin 1934.mkv", "robin 1934"),                       # a year is no episode: remakes are two films
    ("The Cobweb.mkv", "the cobweb"), ("Photocopy.mkv", "photocopy"), ("Sheep 12.mkv", "sheep"),
    ("2001.mkv", "2001"), ("12.mkv", "12"), ("Web.mkv", "web"), ("S01E02.mkv", "s01e02"),
])
def test_title_is_the_name_without_episode_and_encode_marks(name: str, title: str) -> None:
    assert title_of(name) == title


def test_pattern_of_the_user_beats_the_rules() -> None:
    assert title_of("studio/robin/part 1/001.mp4", r"^studio/([^/]+)/") == "robin"
    assert title_of("reel7_b.mp4", r"reel\d") == "reel7"
    assert title_of("other/film.mp4", r"^studio/([^/]+)/") == "film"


@given(SIZES, st.floats(0.0, 1.0), st.integers(0, 5))
def test_no_title_is_in_both_splits(sizes: list[int], share: float, seed: int) -> None:
    splits = split_of_titles(films(sizes), share, seed=seed)
    if share > 0 and len(sizes) > 1:
        assert "eval" in splits.values()


@given(SIZES, st.randoms(use_true_random=False))
def test_split_does_not_depend_on_the_order_of_the_clips(sizes: list[int], rng: random.Random) -> None:
    clips = films(sizes)
    shuffled = rng.sample(clips, len(clips))
    assert split_of_titles(clips) == split_of_titles(shuffled)


@given(st.lists(st.integers(1, 9), min_size=30, max_size=60), st.floats(0.05, 0.5))
def test_share_of_evaluation_misses_by_at_most_half_a_film(sizes: list[int], share: float) -> None:
    """The border lies within one group, and the nearer side of it is taken."""
    splits = split_of_titles(films(sizes), share)
    evaluated = sum(size for number, size in enumerate(sizes) if splits[f"film{number}"] == "eval")
    assert abs(evaluated - share * sum(sizes)) <= max(sizes) / 2


@given(st.lists(st.integers(1, 5), min_size=40, max_size=50), st.lists(st.integers(1, 5), max_size=8))
def test_films_added_later_only_move_the_border(sizes: list[int], added: list[int]) -> None:
    """Of the old films some may change split, but all in one direction. 40 clips or more: a tenth is never under half a film."""
    before = split_of_titles(films(sizes))
    both = split_of_titles([*films(sizes), *films(added, "later")])
    changes = {(split, both[title]) for title, split in before.items() if both[title] != split}
    assert len(changes) <= 1


def test_seed_chooses_other_films() -> None:
    clips = films([3] * 30)
    chosen = {frozenset(title for title, split in split_of_titles(clips, seed=seed).items() if split == "eval")
              for seed in range(5)}
    assert len(chosen) == 5
    assert all(len(titles) == 3 for titles in chosen)        # a tenth of 30 films of one length


@given(SIZES, st.data())
def test_titles_that_share_a_near_duplicate_stay_together(sizes: list[int], data: st.DataObject) -> None:
    clips = films(sizes)
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(clips), st.sampled_from(clips)), max_size=5))
    duplicates: dict[str, Duplicates] = {}
    for one, other in pairs:
        if one.key not in duplicates and other.key not in duplicates:
            duplicates[one.key] = duplicates[other.key] = Duplicates(one.key, 1.0, "")
    splits = split_of_titles(clips, 0.4, duplicates=duplicates)
    for key, row in duplicates.items():
        one, other = (next(clip for clip in clips if clip.key == wanted) for wanted in (key, row.group))
        assert splits[one.title] == splits[other.title]


def test_duplicates_join_titles_in_a_chain() -> None:
    """a shares a clip with b, and b another with c: all three leak into each other."""
    a, b1, b2, c, *rest = [make_clip("a"), make_clip("b", 0), make_clip("b", 1), make_clip("c"), *films([1] * 6)]
    duplicates = {clip.key: Duplicates(group, 1.0, "") for clip, group in ((a, "one"), (b1, "one"), (b2, "two"), (c, "two"))}
    for seed in range(20):
        splits = split_of_titles([a, b1, b2, c, *rest], 0.3, seed=seed, duplicates=duplicates)
        assert splits["a"] == splits["b"] == splits["c"]


def test_single_title_and_share_zero_leave_all_to_training() -> None:
    assert set(split_of_titles(films([20])).values()) == {"train"}
    assert set(split_of_titles(films([2] * 10), 0.0).values()) == {"train"}
    assert assign_splits([], {}, config()) == {}
