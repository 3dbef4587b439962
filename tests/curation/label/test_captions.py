"""Promise: what several frames say becomes one caption without repeats, and every sentence says which model said it of what."""

from __future__ import annotations

import pytest

from curation.clip_frames import spread_frames
from curation.label.captions import join_captions


@pytest.mark.parametrize(("texts", "expected"), [
    (["a cat sits"], "a cat sits."),
    (["a cat sits", "A cat sits.", "a dog"], "a cat sits. a dog."),
    (["a cat", "a cat on a boat", "a cat"], "a cat on a boat."),
    (["a cat", "concatenated"], "a cat. concatenated."),          # whole words only
    (["", "  ", "!"], ""),
])
def test_sentences_that_another_one_contains_are_left_out(texts: list[str], expected: str) -> None:
    assert join_captions(texts) == expected


@pytest.mark.parametrize(("num_frames", "count", "expected"), [
    (25, 3, [0, 12, 24]), (16, 3, [0, 8, 15]), (25, 1, [12]), (16, 1, [7]), (25, 5, [0, 6, 12, 18, 24]), (1, 3, [0, 0, 0])])
def test_frames_are_first_last_and_evenly_between(num_frames: int, count: int, expected: list[int]) -> None:
    assert spread_frames(num_frames, count) == expected
