"""How well what was found agrees with what is true: one-to-one matching, and precision, recall and F1 from its counts.

Pure functions of lists of frames. A matching is as large as any can be, so the numbers do not depend on the order of the
lists, and no detection is counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]       # first and last frame, both inclusive

NEAR_GRADUAL = 4             # frames around labelled ranges: people place their ends no better
MIN_OVERLAP = 0.5            # of the shorter of two ranges, for them to be the same transition


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of one comparison; they add up over films."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0            # 0 where they cannot be counted, as for cuts

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.true_positives + other.true_positives, self.false_positives + other.false_positives,
                         self.false_negatives + other.false_negatives, self.true_negatives + other.true_negatives)

    @property
    def precision(self) -> float:
        """Share of what was found that is true; of nothing: 1 if there was nothing to find, else 0."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else float(self.false_negatives == 0)

    @property
    def recall(self) -> float:
        """Share of what is true that was found; of nothing: 1 if nothing was found, else 0."""
        expected = self.true_positives + self.false_negatives
        return self.true_positives / expected if expected else float(self.false_positives == 0)

    @property
    def f1(self) -> float:
        wrong = self.false_positives + self.false_negatives
        return 2 * self.true_positives / (2 * self.true_positives + wrong) if self.true_positives + wrong else 1.0

    @property
    def accuracy(self) -> float:
        right = self.true_positives + self.true_negatives
        total = right + self.false_positives + self.false_negatives
        return right / total if total else 1.0

    @property
    def num_judged(self) -> int:
        return self.true_positives + self.true_negatives + self.false_positives + self.false_negatives


@dataclass(frozen=True, slots=True)
class Matching:
    """Which detections belong to which labels, by their indices, and what is left of both."""

    pairs: tuple[tuple[int, int], ...]     # (index of what was found, index of what is true)
    false: tuple[int, ...]                 # found, not true and counted
    missed: tuple[int, ...]                # true, not found
    ignored: tuple[int, ...] = ()          # found where the labels leave it open

    @property
    def agreement(self) -> Agreement:
        return Agreement(len(self.pairs), len(self.false), len(self.missed))


def match_cuts(found: Sequence[int], expected: Sequence[int], tolerance: int, ignored: Sequence[Span] = ()) -> Matching:
    """Matches cuts (first frames of shots) that are at most `tolerance` frames apart.

    What was found within NEAR_GRADUAL frames of an `ignored` range (gradual or ambiguous) counts only where it matches.
    """
    wishes = [sorted((index for index, true in enumerate(expected) if abs(true - frame) <= tolerance),
                     key=lambda index, frame=frame: (abs(expected[index] - frame), index)) for frame in found]  # type: ignore[misc]
    return _matching(wishes, len(expected), [_is_within(frame, ignored) for frame in found])


def match_ranges(found: Sequence[Span], expected: Sequence[Span], ignored: Sequence[Span] = ()) -> Matching:
    """Matches ranges whose intersection is at least MIN_OVERLAP of the shorter one.

    What was found and does so with an `ignored` range, made NEAR_GRADUAL frames longer on both sides, does not count.
    """
    wishes = []
    for span in found:
        overlaps = [(overlap(span, true), index) for index, true in enumerate(expected)]
        wishes.append([index for share, index in sorted(overlaps, key=lambda item: (-item[0], item[1])) if share >= MIN_OVERLAP])
    wide = [(first - NEAR_GRADUAL, last + NEAR_GRADUAL) for first, last in ignored]
    return _matching(wishes, len(expected), [any(overlap(span, other) >= MIN_OVERLAP for other in wide) for span in found])


def overlap(one: Span, two: Span) -> float:
    """Frames that both ranges hold over the frames of the shorter one, 0..1."""
    shared = min(one[1], two[1]) - max(one[0], two[0]) + 1
    return max(0, shared) / min(one[1] - one[0] + 1, two[1] - two[0] + 1)


def judge_binary(pairs: Sequence[tuple[bool, bool]]) -> Agreement:
    """Counts (said, true) pairs."""
    return Agreement(sum(said and true for said, true in pairs), sum(said and not true for said, true in pairs),
                     sum(true and not said for said, true in pairs), sum(not said and not true for said, true in pairs))


def _is_within(frame: int, spans: Sequence[Span]) -> bool:
    return any(first - NEAR_GRADUAL <= frame <= last + NEAR_GRADUAL for first, last in spans)


def _matching(wishes: Sequence[Sequence[int]], num_expected: int, is_open: Sequence[bool]) -> Matching:
    """A largest matching (Kuhn's augmenting paths); wishes[i]: labels that detection i could be, best first."""
    holder: dict[int, int] = {}

    def place(detection: int, seen: set[int]) -> bool:
        for label in wishes[detection]:
            if label not in seen:
                seen.add(label)
                if label not in holder or place(holder[label], seen):
                    holder[label] = detection
                    return True
        return False

    for detection in range(len(wishes)):
        place(detection, set())
    matched = set(holder.values())
    left = [detection for detection in range(len(wishes)) if detection not in matched]
    return Matching(pairs=tuple(sorted((detection, label) for label, detection in holder.items())),
                    false=tuple(detection for detection in left if not is_open[detection]),
                    missed=tuple(label for label in range(num_expected) if label not in holder),
                    ignored=tuple(detection for detection in left if is_open[detection]))
