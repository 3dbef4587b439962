"""Three frames at equal spacing, and which of those that pass a shot gives.

ATD-12K takes raw frames at a spacing of 1, 2 or 3. Cartoons hold their drawings, so raw neighbours often show the same one;
counted in distinct drawings, every candidate shows three. A drawing is shown by the first frame of its hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from curation.triplets.clips import TripletClip
from curation.triplets.config import CandidatesConfig, Unit


@dataclass(frozen=True, slots=True)
class Candidate:
    """Frames of one clip, in order."""

    frames: tuple[int, int, int]       # within the clip
    spacing: int                       # in the unit that the job counts in


def places(holds: Sequence[int], unit: Unit) -> list[int]:
    """Frames within the clip among which the spacing is counted."""
    if unit is Unit.FRAMES:
        return list(range(sum(holds)))
    return [0, *accumulate(holds[:-1])] if holds else []


def propose(holds: Sequence[int], config: CandidatesConfig) -> list[Candidate]:
    """All candidates of a clip, by their first frame, then by spacing."""
    among = places(holds, config.unit)
    return [Candidate((among[first], among[first + spacing], among[first + 2 * spacing]), spacing)
            for first in range(0, len(among), config.stride) for spacing in sorted(config.spacings)
            if first + 2 * spacing < len(among)]


def repeats_a_drawing(candidate: Candidate, holds: Sequence[int]) -> bool:
    """Whether two of the frames lie in one hold; only possible where raw frames are counted."""
    ends = list(accumulate(holds))
    drawings = {next(index for index, end in enumerate(ends) if frame < end) for frame in candidate.frames}
    return len(drawings) < len(candidate.frames)


def choose(passing: Sequence[tuple[TripletClip, Candidate]], config: CandidatesConfig) -> list[tuple[TripletClip, Candidate]]:
    """Up to `config.per_shot` of each shot, none sharing a stretch of film with another; all of them where that is 0.

    The order in which they are tried is a hash of seed, clip and frames: even over spacings and places, and the choice in
    one shot does not depend on other films. ATD-12K does not say how it chose; this is ours.
    """
    chosen: list[tuple[TripletClip, Candidate]] = []
    if not config.per_shot:
        return list(passing)
    taken: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for clip, candidate in sorted(passing, key=lambda item: _lot(config.seed, *item)):
        spans = taken.setdefault(clip.shot_key, [])
        first, last = clip.start_frame + candidate.frames[0], clip.start_frame + candidate.frames[-1]
        if len(spans) < config.per_shot and all(last < start or end < first for start, end in spans):
            spans.append((first, last))
            chosen.append((clip, candidate))
    return sorted(chosen, key=lambda item: (item[0].key, item[1].frames))


def _lot(seed: int, clip: TripletClip, candidate: Candidate) -> str:
    return hashlib.sha256(f"{seed}/{clip.key}/{candidate.frames}/{candidate.spacing}".encode()).hexdigest()
