"""Near-duplicate gate: the same drawings in another encode, size, brightness or cut stay once.

Every clip carries one 64-bit perceptual hash for each quarter of a second: the signs of the 64 lowest spatial
frequencies of the picture, without the mean, against their median (the DCT hash known as pHash). A re-encode flips a
few bits; two cuts of the same scene differ by a shift of the sequence. Candidates come from 16-bit bands of the hashes
sorted together, never from all pairs, so 100,000 clips take seconds.

What is compared and what not, chosen here: parts of one shot are never duplicates of each other, because a held
background makes them alike; hashes of pictures without contrast (black, white) match nothing; two clips match when, at
one shift, at least half of the shorter one lies over the other and the mean distance stays under the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import DuplicatesLimits
from curation.gates.quality import Quality
from curation.ledger import Clip, Verdict

GATE = "duplicates"

SAMPLE_S = 0.25          # time between two hashes of a clip
MAX_HASHES = 240         # one minute
FLAT_STD = 6.0           # levels; a thumbnail with less contrast has no hash
NO_HASH = 0              # stands for such a picture and matches nothing
HASH_SIDE = 8            # frequencies in each direction
DCT_SIDE = 32            # the thumbnail is brought to this square first
NUM_BANDS = 4            # of 16 bits
NEIGHBOURS = 12          # a hash is compared with so many followers of equal band: bounds the work of common pictures
MIN_OVERLAP = 0.5        # of the shorter clip
MIN_COVERED = 0.5        # of a clip, for it to be given up in favour of another
MIN_HASHES = 2           # aligned; one picture alone proves nothing
ALIGN_ROWS = 100_000     # candidates aligned at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The clips that show the same, and the one that stands for this one."""

    group: str               # key of the group's best clip; the clip's own key when it is alone. One group, one split
    distance: float | None   # mean differing bits of 64 to `duplicate_of`; None when there is none
    duplicate_of: str        # key of the clip that is kept instead, or ""


@dataclass(frozen=True, slots=True)
class Match:
    """Two clips, by their places in a list, that show the same where right's first hash lies over left's hash `shift`."""

    left: int
    right: int
    shift: int
    distance: float          # mean differing bits of 64
    overlap: int             # aligned hashes


def fingerprint(thumbs: NDArray[np.uint8], pts_s: Sequence[float], end_s: float) -> tuple[int, ...]:
    """One hash for each SAMPLE_S seconds of a clip: of the drawing that is on screen then.

    thumbs: luma [n, h, w] of every distinct drawing in order, without black bars, about 32x18 to 48x27;
    pts_s: [n] when each appears, seconds, ascending; end_s: when the last one leaves.
    """
    num_hashes = min(MAX_HASHES, max(1, round((end_s - pts_s[0]) / SAMPLE_S)))
    moments = pts_s[0] + SAMPLE_S * (np.arange(num_hashes) + 0.5)
    shown = np.clip(np.searchsorted(np.asarray(pts_s), moments, side="right") - 1, 0, len(thumbs) - 1)
    hashes = {int(index): hash_picture(thumbs[index]) for index in np.unique(shown)}
    return tuple(hashes[int(index)] for index in shown)


def hash_picture(luma: NDArray[np.uint8]) -> int:
    """64-bit perceptual hash of a small picture [h, w]; NO_HASH when it has no contrast."""
    if float(luma.std()) < FLAT_STD:
        return NO_HASH
    square = cv2.resize(luma.astype(np.float32), (DCT_SIDE, DCT_SIDE), interpolation=cv2.INTER_LINEAR)
    low = np.asarray(cv2.dct(square))[:HASH_SIDE, :HASH_SIDE].ravel()
    low[0] = low[1:].mean()                     # the mean brightness says nothing; neutral
    bits = np.packbits(low > np.median(low[1:]))
    return int.from_bytes(bits.tobytes(), "big") or 1


def group_near_duplicates(clips: Sequence[Clip], limits: DuplicatesLimits, matches: Sequence[Match] | None = None
                          ) -> dict[str, Duplicates]:
    """Groups of clips that show the same, by clip key, and in each group which clips others stand for.

    The best of a group is the one not dropped before, with the largest picture (`quality.side_px`), then the longest,
    then the first key. A clip is given up only for a kept one that it matches itself and that covers at least half of
    it. The result does not depend on the order of the clips. `matches`: of `find_matches`, where they are known already.
    """
    ranked = sorted(clips, key=rank)
    if matches is None:
        matches = find_matches(ranked, limits.max_distance)
    lengths = [len(clip.fingerprint) for clip in ranked]
    groups = connect(len(ranked), matches)
    better: dict[int, list[Match]] = {}
    for match in matches:
        better.setdefault(match.right, []).append(match)
    found: dict[str, Duplicates] = {}
    given_up: set[int] = set()
    for index, clip in enumerate(ranked):
        stands = [match for match in better.get(index, [])
                  if match.left not in given_up and match.overlap >= MIN_COVERED * lengths[index]]
        best = min(stands, key=lambda match: (match.distance, match.left), default=None)
        if best is not None:
            given_up.add(index)
        found[clip.key] = Duplicates(
            group=ranked[groups[index]].key,
            distance=best.distance if best is not None else None,
            duplicate_of=ranked[best.left].key if best is not None else "",
        )
    return found


def decide(score: Duplicates, limits: DuplicatesLimits) -> Verdict:
    """Keeps clips that no other clip stands for."""
    if score.duplicate_of and score.distance is not None and score.distance <= limits.max_distance:
        return Verdict.drop(GATE, f"shows the same as {score.duplicate_of} ({score.distance:.1f} of 64 bits differ)")
    return Verdict.kept(GATE)


def rank(clip: Clip) -> tuple[bool, int, float, str]:
    """Sorts the clip that stands for others first: not dropped before, large, long."""
    quality = clip.scores.get("quality")
    side_px = quality.side_px if isinstance(quality, Quality) else 0
    dropped = clip.verdict is not None and not clip.verdict.keep
    return dropped, -side_px, -round(clip.end_s - clip.start_s, 3), clip.key


def find_matches(ranked: Sequence[Clip], max_distance: int) -> list[Match]:
    """Pairs (better, worse) of clips sorted by `rank` that show the same at some shift, each once, at its best shift."""
    lengths = np.array([len(clip.fingerprint) for clip in ranked], np.int64)
    firsts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    hashes = np.array([word for clip in ranked for word in clip.fingerprint], np.uint64)
    if hashes.size == 0:
        return []
    owner = np.repeat(np.arange(len(ranked)), lengths)
    place = np.arange(hashes.size) - firsts[owner]
    shots = {shot: number for number, shot in enumerate(sorted({(clip.sha256, clip.shot_index) for clip in ranked}))}
    shot_of = np.array([shots[clip.sha256, clip.shot_index] for clip in ranked], np.int64)
    triples = _candidates(hashes, owner, place, shot_of, max_distance)
    pieces = [_align(hashes, firsts, triples[start : start + ALIGN_ROWS]) for start in range(0, len(triples), ALIGN_ROWS)]
    distance, overlap = (np.concatenate(column) for column in zip(*pieces, strict=True)) if pieces else (np.zeros(0),) * 2
    needed = np.maximum(MIN_HASHES, MIN_OVERLAP * np.minimum(lengths[triples[:, 0]], lengths[triples[:, 1]]))
    near = (overlap >= needed) & (distance <= max_distance)
    triples, distance, overlap = triples[near], distance[near], overlap[near]
    left, right, shift = triples.T
    order = np.lexsort((shift, distance, -overlap, right, left))
    is_best = np.ones(len(order), bool)
    is_best[1:] = (left[order][1:] != left[order][:-1]) | (right[order][1:] != right[order][:-1])
    best = order[is_best]
    columns = (left[best], right[best], shift[best], distance[best], overlap[best].astype(np.int64))
    return [Match(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _candidates(hashes: NDArray[np.uint64], owner: NDArray[np.int64], place: NDArray[np.int64],
                shot_of: NDArray[np.int64], max_distance: int) -> NDArray[np.int64]:
    """Distinct (better clip, worse clip, shift) [n, 3] of which some pair of hashes shares a band and is near."""
    pieces = [np.zeros((0, 3), np.int64)]
    usable = np.flatnonzero(hashes != NO_HASH)
    for band in range(NUM_BANDS):
        values = (hashes[usable] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = usable[np.lexsort((place[usable], owner[usable], hashes[usable], values))]
        values = (hashes[order] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        for ahead in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            one, two = order[:-ahead], order[ahead:]
            near = np.bitwise_count(hashes[one] ^ hashes[two]) <= max_distance
            pick = (values[:-ahead] == values[ahead:]) & near & (shot_of[owner[one]] != shot_of[owner[two]])
            one, two = one[pick], two[pick]
            swap = owner[one] > owner[two]
            one, two = np.where(swap, two, one), np.where(swap, one, two)
            pieces.append(np.stack([owner[one], owner[two], place[one] - place[two]], axis=1))
    return np.unique(np.concatenate(pieces), axis=0)


def _align(hashes: NDArray[np.uint64], firsts: NDArray[np.int64], triples: NDArray[np.int64]
           ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean distance and number of aligned hashes of each (left, right, shift): right's first lies over left's hash `shift`."""
    left, right, shift = triples.T
    start = np.maximum(shift, 0)
    count = np.minimum(firsts[left + 1] - firsts[left], firsts[right + 1] - firsts[right] + shift) - start
    row = np.repeat(np.arange(len(triples)), count)
    step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    one, two = hashes[(firsts[left] + start)[row] + step], hashes[(firsts[right] + start - shift)[row] + step]
    usable = (one != NO_HASH) & (two != NO_HASH)
    aligned = np.bincount(row[usable], minlength=len(triples))
    total = np.bincount(row[usable], np.bitwise_count(one[usable] ^ two[usable]), minlength=len(triples))
    return total / np.maximum(aligned, 1), aligned


def connect(num_clips: int, matches: Sequence[Match]) -> list[int]:
    """Index of the best clip of each clip's group: the smallest index that matches lead to."""
    parent = list(range(num_clips))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for match in matches:
        one, two = sorted((root(match.left), root(match.right)))
        parent[two] = one
    return [root(index) for index in range(num_clips)]
