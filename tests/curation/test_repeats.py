"""Promise: what comes again in an archive is named by its place in the films, and copied films are not taken for openings."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from ledger_rows import digest

from curation.gates.duplicates import SAMPLE_S
from curation.ledger import Clip, Repeat
from curation.repeats import find_repeats

LIMIT = 8                    # bits, as the duplicates gate
SHOT_S = 3.0
RNG = np.random.default_rng(5)

Shot = tuple[int, ...]


def shot(seconds: float = SHOT_S) -> Shot:
    """The fingerprint of a shot that nothing else shows: unrelated words differ by about 32 bits."""
    return tuple(int(word) for word in RNG.integers(1, 2**63, round(seconds / SAMPLE_S)))


def shots(count: int, seconds: float = SHOT_S) -> list[Shot]:
    return [shot(seconds) for _ in range(count)]


def again(pictures: list[Shot], bits: int = 1) -> list[Shot]:
    """The same shots with so many bits of every word flipped, among the upper 48: one band in four stays as it is."""
    flip = sum(1 << int(place) for place in RNG.choice(48, bits, replace=False) + 16)
    return [tuple(word ^ flip for word in fingerprint) for fingerprint in pictures]


def film(name: str, pictures: list[Shot], title: str = "harbour tales") -> list[Clip]:
    clips, start = [], 0.0
    for index, fingerprint in enumerate(pictures):
        seconds = SAMPLE_S * len(fingerprint)
        clips.append(Clip(
            source=name, sha256=digest(name), title=title, shot_index=index, clip_index=index, start_frame=round(start * 24),
            end_frame=round((start + seconds) * 24), start_pts=round(start * 1000), end_pts=round((start + seconds) * 1000),
            time_base=Fraction(1, 1000), fps=24.0, holds=(2,), cadence="twos", survey_key="", crop=(0, 0, 640, 360),
            fingerprint=fingerprint))
        start += seconds
    return clips


def repeats(*films: list[Clip]) -> list[list[Repeat]]:
    seconds = {clips[0].source: clips[-1].end_s for clips in films}
    found = find_repeats([clip for clips in films for clip in clips], seconds, LIMIT)
    return [[found[clip.key] for clip in clips] for clips in films]


def kinds(*films: list[Clip]) -> list[str]:
    """One word per film: o opening, e ending, r recap, y eyecatch, b bank, - of no kind."""
    letter = {"opening": "o", "ending": "e", "recap": "r", "eyecatch": "y", "bank": "b", "": "-"}
    return ["".join(letter[repeat.kind] for repeat in row) for row in repeats(*films)]


def test_run_near_both_starts_is_an_opening_and_near_both_ends_an_ending() -> None:
    opening, ending = shots(4), shots(3)
    one = film("e01.mkv", [*opening, *shots(20), *ending])
    two = film("e02.mkv", [*shots(2), *again(opening), *shots(21), *again(ending), *shots(1)])
    assert kinds(one, two) == ["oooo" + "-" * 20 + "eee", "--oooo" + "-" * 21 + "eee-"]


def test_one_clip_stands_for_all_copies_and_is_told_in_each() -> None:
    opening = shots(1)
    rows = repeats(*(film(f"e{number:02}.mkv", [*again(opening), *shots(12)]) for number in range(5)))
    firsts = [row[0] for row in rows]
    assert len({repeat.first for repeat in firsts}) == 1 and {repeat.copies for repeat in firsts} == {5}
    assert all(row[1] == Repeat("", "", row[1].first, 1) for row in rows)
    assert len({row[1].first for row in rows}) == 5


def test_short_run_at_one_place_in_the_middle_is_an_eyecatch() -> None:
    catch = shots(2)                     # 6 s of 60 s
    assert kinds(film("e01.mkv", [*shots(9), *catch, *shots(9)]),
                 film("e02.mkv", [*shots(10), *again(catch), *shots(8)])) == ["-" * 9 + "yy" + "-" * 9, "-" * 10 + "yy" + "-" * 8]


@pytest.mark.parametrize(("num_shots", "before_one", "before_two"), [(4, 9, 9), (2, 6, 12)])
def test_long_run_in_the_middle_and_one_that_moves_far_are_bank_shots(num_shots: int, before_one: int, before_two: int) -> None:
    stock = shots(num_shots)             # 12 s; or 6 s, first at 35 % and then at 65 % of 60 s
    films = [film(name, [*shots(before), *pictures, *shots(20 - before - num_shots)])
             for name, before, pictures in (("e01.mkv", before_one, stock), ("e02.mkv", before_two, again(stock)))]
    assert {letter for word in kinds(*films) for letter in word} == {"b", "-"}


def test_late_scenes_that_begin_the_next_film_of_the_title_are_its_recap() -> None:
    late = shots(3)
    films = [film("e09.mkv", [*shots(15), *late, *shots(2)]), film("e10.mkv", [*again(late), *shots(17)])]
    # Episode 10 follows episode 9 although "e10" sorts before "e9"; the scene itself is no recap.
    nine = [[replace(clip, source="e9.mkv") for clip in films[0]], films[1]]
    for pair in (films, nine):
        assert kinds(*pair) == ["-" * 20, "rrr" + "-" * 17]
        assert {row[0].copies for row in (repeats(*pair)[0][15:], repeats(*pair)[1])} == {2}


def test_scenes_of_another_title_or_of_a_later_film_are_no_recap() -> None:
    late = shots(3)
    first, second = [*shots(15), *late, *shots(2)], [*again(late), *shots(17)]
    assert kinds(film("e01.mkv", first), film("x01.mkv", second, "other"))[1] == "bbb" + "-" * 17
    assert kinds(film("e02.mkv", first), film("e01.mkv", second))[1] == "bbb" + "-" * 17


def test_drawings_used_twice_in_one_film_are_bank_shots() -> None:
    stock = shots(1)
    assert kinds(film("e01.mkv", [*shots(3), *stock, *shots(6), *again(stock), *shots(3)])) == ["---b------b---"]


def test_copied_film_has_no_opening_but_its_clips_are_copies() -> None:
    pictures = shots(12)
    rows = repeats(film("film.mkv", pictures), film("film_small.mp4", again(pictures)))
    assert all((repeat.kind, repeat.level, repeat.copies) == ("", "pictures", 2) for row in rows for repeat in row)


def test_another_cut_of_a_film_is_a_copy_though_it_ends_otherwise() -> None:
    begin = shots(7)                     # of 12
    assert set("".join(kinds(film("film.mkv", [*begin, *shots(5)]), film("film_tv.mkv", [*again(begin), *shots(5)])))) == {"-"}


def test_copy_of_which_little_is_recognised_is_a_copy_when_all_its_parts_are() -> None:
    pictures = shots(20)
    other = shots(20)
    for place in (1, 8, 9, 17):          # 20 % of the film, in each of its thirds
        other[place] = again([pictures[place]])[0]
    assert set("".join(kinds(film("film.mkv", pictures), film("film_dvd.mp4", other)))) == {"-"}


def test_opening_of_a_copied_film_is_still_one() -> None:
    opening, rest = shots(3), shots(15)
    films = [film("e01.mkv", [*opening, *rest]), film("e01_small.mp4", again([*opening, *rest])),
             film("e02.mkv", [*again(opening), *shots(15)])]
    assert kinds(*films) == ["ooo" + "-" * 15] * 3


def test_levels_tell_another_encode_from_the_same_drawings_shot_again() -> None:
    pictures = shots(2)
    rest = [film(name, [*again(pictures, bits), *shots(20)]) for name, bits in (("e02.mkv", 2), ("e03.mkv", 7))]
    rows = repeats(film("e01.mkv", [*pictures, *shots(20)]), *rest)
    # e01 and e02 differ by two bits of 64; e03 differs from e01 by seven and from e02 by at least five.
    assert [row[0].level for row in rows] == ["pictures", "pictures", "drawings"]


def test_long_clip_that_only_contains_a_repeat_is_not_marked() -> None:
    opening = shot(3.0)
    long = opening + shot(9.0)
    assert kinds(film("e01.mkv", [opening, *shots(12)]), film("e02.mkv", [long, *shots(9)])) == ["o" + "-" * 12, "-" * 10]


def test_order_of_the_clips_changes_nothing() -> None:
    opening = shots(3)
    clips = [*film("e01.mkv", [*opening, *shots(9)]), *film("e02.mkv", [*again(opening), *shots(9)])]
    seconds = {"e01.mkv": 36.0, "e02.mkv": 36.0}
    mixed = random.Random(1).sample(clips, len(clips))
    assert find_repeats(mixed, seconds, LIMIT) == find_repeats(clips, seconds, LIMIT)


def test_clips_that_repeat_nothing_and_no_clips_at_all_are_fine() -> None:
    assert find_repeats([], {}, LIMIT) == {}
    [row] = repeats(film("e01.mkv", shots(3)))
    assert [repeat.kind + repeat.level for repeat in row] == ["", "", ""]
