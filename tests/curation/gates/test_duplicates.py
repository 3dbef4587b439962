"""Promise: re-encodes, other cuts and other sizes of the same drawings are found, look-alikes are not."""

from __future__ import annotations

import random
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from curation.config import DuplicatesLimits
from curation.gates.duplicates import SAMPLE_S, Duplicates, decide, fingerprint, group_near_duplicates, hash_picture
from curation.gates.quality import Quality
from curation.ledger import Clip, Verdict

LIMITS = DuplicatesLimits(enabled=True, max_distance=8)


def picture(seed: int) -> np.ndarray:
    """Luma thumbnail of 48x27: a few soft blobs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 8)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (48, 27), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def scene(seed: int, seconds: float) -> tuple[np.ndarray, list[float]]:
    """Twelve drawings a second that change slowly from one picture to another, every second another one."""
    count = int(seconds * 12)
    keys = [picture(seed * 1000 + number).astype(np.float32) for number in range(int(seconds) + 2)]
    frames = [keys[n // 12] * (1 - n % 12 / 12) + keys[n // 12 + 1] * (n % 12 / 12) for n in range(count)]
    return np.stack(frames).astype(np.uint8), [number / 12 for number in range(count)]


def recoded(thumbs: np.ndarray, seed: int) -> np.ndarray:
    """As another encode shows it: darker, flatter, noisy."""
    noise = np.random.default_rng(seed).normal(0, 3, thumbs.shape)
    return np.clip(thumbs * 0.8 + 12 + noise, 0, 255).astype(np.uint8)


def clip(name: str, words: tuple[int, ...], *, side_px: int = 480, seconds: float | None = None, shot: int = 0,
         start: int = 0, verdict: Verdict | None = None) -> Clip:
    ticks = round((seconds if seconds is not None else len(words) * SAMPLE_S) * 1000)
    return Clip(
        source=f"{name}.mp4", sha256=name * 20, title=name, shot_index=shot, clip_index=0, start_frame=start,
        end_frame=start + 24, start_pts=0, end_pts=ticks, time_base=Fraction(1, 1000), fps=24.0, holds=(2,) * 12,
        cadence="twos", survey_key="key", crop=(0, 0, 640, 480), fingerprint=words, verdict=verdict,
        scores={"quality": Quality(side_px, 1.33, 1.0, 0.5)})


def words_of(seed: int, *, start: int = 0, stop: int | None = None, recode: int = 0) -> tuple[int, ...]:
    """Fingerprint of a part of a scene of six seconds."""
    thumbs, times = scene(seed, 6)
    thumbs = recoded(thumbs, recode) if recode else thumbs
    part = slice(start, stop)
    return fingerprint(thumbs[part], times[part], times[part][-1] + 1 / 12)


def test_the_same_film_in_another_encode_is_one_group_and_the_larger_picture_stays():
    clips = [clip("a", words_of(1)), clip("b", words_of(1, recode=5), side_px=1080), clip("c", words_of(2))]
    found = group_near_duplicates(clips, LIMITS)
    a, b, c = (found[one.key] for one in clips)
    assert a.duplicate_of == clips[1].key and a.group == b.group == clips[1].key
    assert a.distance is not None and 0 < a.distance <= LIMITS.max_distance
    assert b == Duplicates(clips[1].key, None, "")
    assert c == Duplicates(clips[2].key, None, "")


@pytest.mark.parametrize("shift", [3, 7, 13, 20])
def test_a_clip_cut_elsewhere_is_found_by_the_part_they_share(shift: int):
    # 72 drawings; the second clip starts `shift` drawings later (3 drawings = one hash) and is re-encoded.
    clips = [clip("a", words_of(1)), clip("b", words_of(1, start=shift, recode=3), side_px=400)]
    found = group_near_duplicates(clips, LIMITS)
    assert found[clips[1].key].duplicate_of == clips[0].key


def test_a_short_clip_within_a_long_one_is_given_up_but_never_the_long_one_for_it():
    long, short = clip("a", words_of(1), side_px=480), clip("b", words_of(1, start=24, stop=48, recode=2), side_px=1080)
    found = group_near_duplicates([long, short], LIMITS)
    assert found[long.key].duplicate_of == ""       # the better picture covers a third of it only
    assert found[short.key].duplicate_of == ""
    assert found[long.key].group == found[short.key].group  # they must still fall into one split
    smaller = clip("b", words_of(1, start=24, stop=48, recode=2), side_px=240)
    assert group_near_duplicates([long, smaller], LIMITS)[smaller.key].duplicate_of == long.key


def test_parts_of_one_shot_are_not_duplicates_of_each_other():
    words = words_of(1)
    clips = [clip("a", words, start=0), clip("a", words, start=100)]
    assert all(row.duplicate_of == "" for row in group_near_duplicates(clips, LIMITS).values())
    apart = [clip("a", words, start=0), clip("a", words, start=100, shot=1)]
    assert sum(row.duplicate_of != "" for row in group_near_duplicates(apart, LIMITS).values()) == 1


def test_black_and_plain_pictures_match_nothing():
    black, grey = np.zeros((12, 27, 48), np.uint8), np.full((12, 27, 48), 128, np.uint8)
    times = [number / 4 for number in range(12)]
    clips = [clip("a", fingerprint(black, times, 3.0)), clip("b", fingerprint(grey, times, 3.0)), clip("c", ())]
    assert all(row == Duplicates(key, None, "") for key, row in group_near_duplicates(clips, LIMITS).items())


def test_a_kept_clip_is_never_given_up_for_a_dropped_one():
    dropped = clip("a", words_of(1), side_px=1080, verdict=Verdict.drop("motion", "nothing moves"))
    kept = clip("b", words_of(1, recode=2), side_px=240)
    found = group_near_duplicates([dropped, kept], LIMITS)
    assert found[kept.key].duplicate_of == "" and found[dropped.key].duplicate_of == kept.key


def test_the_result_does_not_depend_on_the_order():
    clips = [clip(name, words_of(seed, recode=number), side_px=side)
             for number, (name, seed, side) in enumerate([("a", 1, 480), ("b", 1, 480), ("c", 1, 720), ("d", 2, 480),
                                                          ("e", 2, 480), ("f", 3, 480)])]
    expected = group_near_duplicates(clips, LIMITS)
    for seed in range(4):
        shuffled = clips[:]
        random.Random(seed).shuffle(shuffled)
        assert group_near_duplicates(shuffled, LIMITS) == expected


def test_a_hash_stays_under_brightness_contrast_and_size():
    for seed in range(20):
        luma = picture(seed)
        small = cv2.resize(luma, (32, 18), interpolation=cv2.INTER_AREA)
        words = [hash_picture(luma), hash_picture((luma * 0.7 + 20).astype(np.uint8)), hash_picture(small)]
        assert (words[0] ^ words[1]).bit_count() <= 3
        assert (words[0] ^ words[2]).bit_count() <= 8


def test_a_fingerprint_has_one_hash_for_each_quarter_second_however_long_drawings_are_held():
    thumbs = np.stack([picture(1), picture(2)])
    words = fingerprint(thumbs, [10.0, 11.0], 13.0)  # one second of the first drawing, two of the second
    assert words == (hash_picture(thumbs[0]),) * 4 + (hash_picture(thumbs[1]),) * 8


def test_the_limit_decides():
    score = Duplicates(group="a", distance=5.0, duplicate_of="a")
    assert not decide(score, LIMITS).keep and decide(score, LIMITS).reason.startswith("duplicates: ")
    assert decide(score, DuplicatesLimits(enabled=True, max_distance=4)).keep
    assert decide(Duplicates("b", None, ""), LIMITS).keep


def test_thousands_of_clips_take_a_second_and_common_pictures_do_not_explode():
    rng = np.random.default_rng(0)
    common = int(rng.integers(1, 2**63))
    clips = []
    for number in range(4000):
        words = tuple(int(word) for word in rng.integers(1, 2**63, 12))
        clips.append(clip(f"{number:06d}", (common, common, *words)))
    started = time.process_time()
    group_near_duplicates(clips, LIMITS)
    assert time.process_time() - started < 5
