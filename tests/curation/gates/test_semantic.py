"""Promise: clips that look the same to CLIP in every frame stay once, whatever their order, and never lie in both splits."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from ledger_rows import make_clip

from curation.config import DuplicatesLimits
from curation.gates import semantic
from curation.gates.duplicates import Duplicates
from curation.gates.semantic import Semantic, decide, find_semantic, join_groups
from curation.ledger import Clip

LIMITS = DuplicatesLimits(enabled=True, max_distance=8, min_cosine=0.98)


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def clips_with_vectors() -> tuple[list[Clip], dict[str, np.ndarray]]:
    """Two clips of other films alike in all frames, one like them in two frames of three only, one of its own."""
    clips = [make_clip("a.mkv", 0, num_frames=96), make_clip("b.mkv", 0), make_clip("c.mkv", 0), make_clip("d.mkv", 0)]
    x, y, z = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)
    near = unit(1, 0.1, 0)                          # cosine 0.995
    return clips, {clip.key: np.stack(frames) for clip, frames in
                   zip(clips, ([x, x, x], [near, x, near], [x, x, y], [z, z, z]), strict=True)}


@pytest.mark.parametrize("exact", [semantic.EXACT, 0])
def test_clip_that_is_alike_in_every_frame_is_given_up_for_the_longer_one(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "EXACT", exact)   # 0: candidates by bits instead of all pairs
    clips, vectors = clips_with_vectors()
    expected = None
    for seed in range(3):
        random.Random(seed).shuffle(clips)
        found = find_semantic(clips, vectors, LIMITS)
        expected = expected or found
        assert found == expected
    keys = {clip.source: clip.key for clip in clips}
    assert found[keys["b.mkv"]].duplicate_of == keys["a.mkv"] and found[keys["b.mkv"]].cosine == pytest.approx(0.995, abs=1e-3)
    assert [found[keys[name]].duplicate_of for name in ("a.mkv", "c.mkv", "d.mkv")] == ["", "", ""]


def test_least_alike_frame_counts_and_parts_of_one_shot_do_not() -> None:
    clips, vectors = clips_with_vectors()
    found = find_semantic(clips, vectors, LIMITS)
    assert found[clips[2].key].cosine == pytest.approx(0.0995, abs=1e-3)     # of its last frame with b's
    part = replace(clips[0], start_frame=96, end_frame=144, start_pts=96, end_pts=144)
    alone = find_semantic([clips[0], part], {clips[0].key: vectors[clips[0].key], part.key: vectors[clips[0].key]}, LIMITS)
    assert alone[part.key] == Semantic(-1.0, "", "")
    assert find_semantic(clips, {}, LIMITS) == {}


def test_groups_of_the_two_looks_are_joined() -> None:
    groups = {key: Duplicates(group, None, "") for key, group in (("a", "a"), ("b", "b"), ("c", "b"), ("d", "d"))}
    joined = join_groups(groups, {"c": Semantic(0.99, "a", "a"), "d": Semantic(0.5, "a", "")})
    assert {key: score.group for key, score in joined.items()} == {"a": "a", "b": "a", "c": "a", "d": "d"}


@pytest.mark.parametrize(("cosine", "keep"), [(0.98, False), (0.9799, True)])
def test_limit_decides_again_without_a_new_measurement(cosine: float, keep: bool) -> None:
    assert decide(Semantic(cosine, "a", "a"), LIMITS).keep is keep
    assert decide(Semantic(0.999, "a", ""), LIMITS).keep


def test_many_clips_are_compared_by_bits_and_their_copies_found() -> None:
    """2 x 3000 clips in two films, the second a little noisier: nearly all copies are found without all pairs."""
    rng = np.random.default_rng(0)
    clips = [make_clip(name, index) for name in ("a.mkv", "b.mkv") for index in range(3000)]
    first = rng.standard_normal((3000, 1, 32)).astype(np.float32)
    both = np.concatenate([first, first + 0.02 * rng.standard_normal(first.shape).astype(np.float32)])
    both /= np.linalg.norm(both, axis=2, keepdims=True)
    found = find_semantic(clips, {clip.key: vectors for clip, vectors in zip(clips, both, strict=True)}, LIMITS)
    assert sum(bool(score.duplicate_of) for score in found.values()) >= 2950
