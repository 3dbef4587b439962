"""Near-duplicates by meaning: clips whose first, middle and last frames all look the same to CLIP.

A second look for the duplicates gate, where CLIP was asked: perceptual hashes find the same drawings in another encode; CLIP's
vectors also find them mirrored, recoloured, cropped or drawn again. Of two clips the cosine that counts is that of their least
alike frame, so a shared background is not enough. Parts of one shot are never duplicates of each other.

Up to EXACT clips all pairs are compared; beyond, only neighbours in the order of bits that random directions cut from the
vectors. Directions are seeded, so the same clips give the same groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.config import DuplicatesLimits
from curation.gates import duplicates
from curation.gates.duplicates import Duplicates, rank
from curation.ledger import Clip, Verdict

SCORE = "semantic"
DIGITS = 4
EXACT = 4096                 # clips; 8.4 million pairs take about a second
BANDS, BAND_BITS = 24, 16    # two clips of a cosine of 0.97, their mean taken off, share a band with a probability of 0.27
NEIGHBOURS = 12              # within a band
ROWS = 512                   # compared at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Semantic:
    """The clip that looks most alike, and the one that stands for this one."""

    cosine: float            # of the least alike frame, to the most alike clip of another shot; -1: there is none
    nearest: str             # key of that clip, or ""
    duplicate_of: str        # key of the better clip that shows the same, or ""


def find_semantic(clips: Sequence[Clip], vectors: Mapping[str, NDArray[np.float32]], limits: DuplicatesLimits
                  ) -> dict[str, Semantic]:
    """The score of every clip that has vectors [frames, d], by key; the result does not depend on the clips' order.

    A clip is given up for the most alike of the better ones (`duplicates.rank`) that was not given up itself.
    """
    ranked = sorted((clip for clip in clips if clip.key in vectors), key=rank)
    if not ranked:
        return {}
    stack = np.stack([vectors[clip.key] for clip in ranked])
    # Places are negated, so that of equal cosines the better clip, which comes first, is the largest.
    best: dict[int, tuple[float, int]] = {}
    better: dict[int, list[tuple[float, int]]] = {}
    for left, right, cosine in _pairs(stack):
        if (ranked[left].sha256, ranked[left].shot_index) == (ranked[right].sha256, ranked[right].shot_index):
            continue
        for one, two in ((left, right), (right, left)):
            best[one] = max(best.get(one, (-1.0, -1)), (cosine, -two))
        if cosine >= limits.min_cosine:
            better.setdefault(right, []).append((cosine, -left))
    found: dict[str, Semantic] = {}
    given_up: set[int] = set()
    for index, clip in enumerate(ranked):
        stands = max(((cosine, other) for cosine, other in better.get(index, []) if -other not in given_up), default=None)
        if stands is not None:
            given_up.add(index)
        cosine, other = best.get(index, (-1.0, 1))
        found[clip.key] = Semantic(cosine, ranked[-other].key if other <= 0 else "", ranked[-stands[1]].key if stands else "")
    return found


def join_groups(groups: Mapping[str, Duplicates], found: Mapping[str, Semantic]) -> dict[str, Duplicates]:
    """Groups of the duplicates gate, joined where clips of two mean the same: one group never lies in both splits."""
    parent = {score.group: score.group for score in groups.values()}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for key, score in found.items():
        if score.duplicate_of:
            one, two = sorted((root(groups[key].group), root(groups[score.duplicate_of].group)))
            parent[two] = one
    return {key: Duplicates(root(score.group), score.distance, score.duplicate_of) for key, score in groups.items()}


def decide(score: Semantic, limits: DuplicatesLimits) -> Verdict:
    """Keeps clips that no other clip stands for."""
    if score.duplicate_of and score.cosine >= limits.min_cosine:
        return Verdict.drop(duplicates.GATE, f"means the same as {score.duplicate_of} (cosine {score.cosine:.3f})")
    return Verdict.kept(duplicates.GATE)


def _pairs(stack: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """(left, right, cosine of the least alike frame), left < right, of clips [n, frames, d] that may be alike."""
    count = len(stack)
    if count > EXACT:
        return [(left, right, _least(stack[left], stack[right])) for left, right in sorted(_candidates(stack))]
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, count, ROWS):
        part = stack[start : start + ROWS]
        least = np.min([part[:, frame] @ stack[:, frame].T for frame in range(stack.shape[1])], axis=0)
        for row in range(len(part)):
            left = start + row
            # Of the others only the nearest and those near a limit are of use; all of them would be too many to keep.
            near = sorted(int(place) for place in np.argsort(-least[row], kind="stable")[: NEIGHBOURS + 1])
            pairs += [(min(left, place), max(left, place), round(float(least[row, place]), DIGITS))
                      for place in near if place != left]
    return sorted(set(pairs))


def _candidates(stack: NDArray[np.float32]) -> set[tuple[int, int]]:
    """Pairs of clips that are near each other in one of the bands of bits."""
    flat = stack.reshape(len(stack), -1)
    directions = np.random.default_rng(0).standard_normal((flat.shape[1], BANDS * BAND_BITS)).astype(np.float32)
    bits = (flat - flat.mean(axis=0)) @ directions > 0
    weights = 1 << np.arange(BAND_BITS)
    found: set[tuple[int, int]] = set()
    for band in range(BANDS):
        words = bits[:, band * BAND_BITS : (band + 1) * BAND_BITS] @ weights
        order = np.argsort(words, kind="stable")
        for step in range(1, NEIGHBOURS + 1):
            one, two = order[:-step], order[step:]
            same = words[one] == words[two]
            found |= {(int(min(left, right)), int(max(left, right))) for left, right in zip(one[same], two[same], strict=True)}
    return found


def _least(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    return round(float((one * two).sum(axis=1).min()), DIGITS)
