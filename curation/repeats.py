"""What comes again: openings, endings, recaps, eyecatches and bank shots, told by where the same pictures stand in films.

Clips that show the same are those the duplicates gate finds by their fingerprints. Matches of one pair of films that lie
one after another at the same distance in time make a *run*, and the place of a run in both films says what it is: near
both starts an opening, near both ends an ending, late in one film and early in a later one of the same title a recap,
short and near the same place in the middle an eyecatch, anywhere else a bank shot: drawings used again. Films of which
most is the same at one distance are copies of each other (another encode, another cut), and then nothing is an opening.

Pure functions of the rows; sorting takes the place of comparing all pairs. Where no source gives numbers, they are chosen
here: openings and endings of series last 30 to 100 s, recaps a minute or two, eyecatches 3 to 7 s beside a break.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.gates.duplicates import MIN_COVERED, SAMPLE_S, Match, connect, find_matches, rank
from curation.ledger import Clip, Repeat

KINDS = ("opening", "ending", "recap", "eyecatch", "bank")     # a clip in several runs is the first of these
SAME_PICTURES_BITS = 3.0     # of 64: what another encode changes; more are drawings shot again, or graded otherwise
OFFSET_S = 0.75              # matches this far apart in their distance in time belong together
GAP_S = 4.0                  # inside a run: a shot that no fingerprint tells, a transition
EDGE_SHARE = 0.25            # of a film: its start and its end
EDGE_S = 420.0               # and no further in: an opening may follow a scene, never half an act
LATE_SHARE = 0.5             # from here on a film gives scenes to the next one's recap
EYECATCH_S = 8.0
EYECATCH_SHIFT = 0.15        # share of the film by which an eyecatch moves from one episode to another
COPY_SHARE = 0.5             # of the shorter film, for both to be copies
COPY_SPREAD_SHARE = 0.2      # enough where the start, the middle and the end all are the same

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Matches:
    """Pairs of clips that show the same; side 0 is the film earlier by name, or the earlier clip of one film."""

    clips: Ints              # [2, n]: places in the list of clips
    films: Ints              # [2, n]: places in the list of films
    begin: Floats            # [2, n]: when the common part begins, seconds of the film
    seconds: Floats          # [n]: how long it is
    distance: Floats         # [n]: differing bits of 64

    def at(self, order: Ints) -> _Matches:
        return _Matches(self.clips[:, order], self.films[:, order], self.begin[:, order], self.seconds[order],
                        self.distance[order])


def find_repeats(clips: Sequence[Clip], film_seconds: Mapping[str, float], max_distance: int,
                 matches: Sequence[Match] | None = None) -> dict[str, Repeat]:
    """What repeats of every clip, by key; of clips that show nothing known the kind and the level are "".

    film_seconds: length of each source; max_distance: the limit of the duplicates gate, bits of 64. `first` is the best
    clip of the group that the duplicates gate forms. The order of the clips changes nothing. `matches`: of `find_matches`,
    where they are known already.
    """
    ranked = sorted(clips, key=rank)
    found = find_matches(ranked, max_distance) if matches is None else matches
    groups = np.array(connect(len(ranked), found), np.int64)
    sizes = np.bincount(groups, minlength=len(ranked))
    distance, kinds = np.full(len(ranked), np.inf), np.full(len(ranked), len(KINDS))
    if found:
        names = sorted({clip.source for clip in ranked}, key=_natural)
        titles = {clip.source: clip.title for clip in ranked}
        length = np.array([max(film_seconds.get(name, 0.0), 1e-6) for name in names])
        title = np.unique([titles[name] for name in names], return_inverse=True)[1]
        hashes = np.array([len(clip.fingerprint) for clip in ranked])
        _mark(kinds, distance, _located(ranked, names, found), SAMPLE_S * hashes, length, title)
    return {clip.key: Repeat(
        kind=KINDS[kinds[index]] if kinds[index] < len(KINDS) else "",
        level="" if sizes[groups[index]] == 1 else "pictures" if distance[index] <= SAME_PICTURES_BITS else "drawings",
        first=ranked[groups[index]].key, copies=int(sizes[groups[index]])) for index, clip in enumerate(ranked)}


def _located(ranked: Sequence[Clip], names: Sequence[str], found: Sequence[Match]) -> _Matches:
    """Matches with their places in the films `names`."""
    place = {name: number for number, name in enumerate(names)}
    films = np.array([place[clip.source] for clip in ranked])
    starts = np.array([clip.start_s for clip in ranked])
    hashes = np.array([len(clip.fingerprint) for clip in ranked])
    left, right, shift = np.array([(match.left, match.right, match.shift) for match in found], np.int64).T
    clips = np.stack([left, right])
    begin = starts[clips] + SAMPLE_S * np.maximum([shift, -shift], 0)
    seconds = SAMPLE_S * (np.minimum(hashes[left], hashes[right] + shift) - np.maximum(shift, 0))
    swap = (films[left] > films[right]) | ((films[left] == films[right]) & (begin[0] > begin[1]))
    clips[:, swap], begin[:, swap] = clips[::-1, swap], begin[::-1, swap]
    return _Matches(clips, films[clips], begin, seconds, np.array([match.distance for match in found]))


def _mark(kinds: Ints, distance: Floats, matches: _Matches, clip_s: Floats, length: Floats, title: Ints) -> None:
    """Lowers `kinds` [clips] to the kind of the runs a clip lies in, and `distance` [clips] to that of its nearest match.

    clip_s: length of each clip; length and title: of each film. A match is as near as its run where that is nearer: the
    clips of one encode go together, though a few bits more differ in some.
    """
    order, aligned = _clusters(matches.films[0] * len(length) + matches.films[1], matches.begin[1] - matches.begin[0],
                               np.zeros(len(matches.seconds)), OFFSET_S)
    matches = matches.at(order)
    is_copy = (matches.films[0] != matches.films[1]) & _copied(aligned, matches, length)
    order, run = _clusters(aligned, matches.begin[0], matches.seconds, GAP_S)
    matches, is_copy = matches.at(order), is_copy[order]

    borders = np.unique(run, return_index=True)[1]
    first = np.minimum.reduceat(matches.begin, borders, axis=1)
    last = np.maximum.reduceat(matches.begin + matches.seconds, borders, axis=1)
    found = _kinds(first, last, matches.films[:, borders], length, title)[run]
    mean = np.bincount(run, matches.distance * matches.seconds) / np.bincount(run, matches.seconds)
    for side, clips in enumerate(matches.clips):
        np.minimum.at(distance, clips, np.minimum(matches.distance, mean[run]))
        is_original = (found == KINDS.index("recap")) & (side == 0)
        counts = (matches.seconds >= MIN_COVERED * clip_s[clips]) & ~is_copy & ~is_original
        np.minimum.at(kinds, clips[counts], found[counts])


def _kinds(first: Floats, last: Floats, films: Ints, length: Floats, title: Ints) -> Ints:
    """Index into KINDS of each run. first, last: seconds of both films, [2, runs]; films [2, runs]."""
    middle, title = (first + last) / 2 / length[films], title[films]
    is_early = (middle <= EDGE_SHARE) & (first <= EDGE_S)
    is_late = (middle >= 1 - EDGE_SHARE) & (length[films] - last <= EDGE_S)
    is_recap = (title[0] == title[1]) & (middle[0] >= LATE_SHARE) & is_early[1]
    is_inside = ((middle > EDGE_SHARE) & (middle < 1 - EDGE_SHARE)).all(axis=0)
    is_eyecatch = is_inside & (np.abs(middle[0] - middle[1]) <= EYECATCH_SHIFT) & (last[0] - first[0] < EYECATCH_S)
    two = films[0] != films[1]
    cases = [two & is_early.all(axis=0), two & is_late.all(axis=0), two & is_recap, two & is_eyecatch]
    return np.select(cases, [np.int64(number) for number in range(len(cases))], np.int64(KINDS.index("bank")))


def _clusters(group: Ints, value: Floats, extent: Floats, gap: float) -> tuple[Ints, Ints]:
    """An order by group and value, and the number of each row's cluster in that order, ascending.

    Rows of one group stay together while the next value lies at most `gap` behind value + extent of any before.
    """
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    reach = (value + extent[order]).astype(np.float64)
    opens = np.ones(len(order), bool)
    step = float(np.ptp(np.concatenate([value, reach]))) + gap + 1.0     # lifts every group over the one before
    lift = np.unique(group, return_inverse=True)[1] * step
    furthest = np.maximum.accumulate(reach + lift)
    opens[1:] = (group[1:] != group[:-1]) | (value[1:] + lift[1:] > furthest[:-1] + gap)
    return order, np.cumsum(opens) - 1


def _copied(aligned: Ints, matches: _Matches, length: Floats) -> NDArray[np.bool_]:
    """Which matches belong to films that are copies: most of the shorter one is the same, or some in each of its thirds."""
    one, two = length[matches.films]
    shorter = np.minimum(one, two)
    total = np.bincount(aligned, matches.seconds)[aligned] / shorter
    middle = np.where(one <= two, *matches.begin) + matches.seconds / 2
    thirds = np.zeros((int(aligned[-1]) + 1, 3), np.bool_)
    thirds[aligned, np.clip((3 * middle / shorter).astype(np.int64), 0, 2)] = True
    is_spread = thirds.sum(axis=1)[aligned] == 3
    return np.logical_or(total >= COPY_SHARE, (total >= COPY_SPREAD_SHARE) & is_spread)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts episode 2 before episode 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
