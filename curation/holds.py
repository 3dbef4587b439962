"""Held drawings: which frames show a new picture, and at what rhythm a clip was drawn.

Animation repeats drawings: on ones every frame is new, on twos every second one. A frame is *new* when it changed locally
more than the film's own noise (compression, grain, gate weave) changes a held drawing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

USUAL_PEAK = 9.5             # grey levels of change_peak between what coding does to a held drawing and the least drawn change
MIN_PEAK, MAX_PEAK = 6.5, 20.5
VALLEY_OCTAVES = 0.35        # width of the gap that is looked for, to each side
AWAY_COST = 0.04             # share of the frames that one octave away from USUAL_PEAK must save

CADENCES = {1: "ones", 2: "twos", 3: "threes", 4: "fours"}
CLEAR_SHARE = 0.75           # of the drawings that agree, for a clip to have one cadence


def new_drawings(change_peak: NDArray[np.float32], is_damaged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where a frame shows another picture than the frame before; [n], the first is always new."""
    new = change_peak >= hold_threshold(change_peak)
    new[is_damaged] = True
    if len(new):
        new[0] = True
    return new


def hold_threshold(change_peak: NDArray[np.float32]) -> float:
    """The change from which a frame of this film is new, in grey levels: the emptiest place of its distribution.

    Held and new drawings make two hills with a valley between; noisy films (grain, hard compression) have it higher. Where
    there is no valley, as in films on ones throughout, the usual level stands.
    """
    octaves = np.log2(np.maximum(change_peak[1:], 0.5))
    levels = np.arange(MIN_PEAK, MAX_PEAK + 0.5)
    if not len(octaves):
        return USUAL_PEAK
    within = np.abs(octaves[None, :] - np.log2(levels)[:, None])
    crowd = np.clip(1.0 - within / VALLEY_OCTAVES, 0.0, None).mean(axis=1)
    return float(levels[np.argmin(crowd + AWAY_COST * np.abs(np.log2(levels / USUAL_PEAK)))])


def hold_lengths(new: NDArray[np.bool_]) -> tuple[int, ...]:
    """Frames each drawing of a span stays, in order; they sum to len(new). The span's first frame starts a drawing."""
    starts = np.flatnonzero(new)
    starts = np.union1d([0], starts)
    return tuple(int(length) for length in np.diff(np.append(starts, len(new))))


def cadence(holds: Sequence[int]) -> str:
    """"ones", "twos", "threes", "fours", "mixed" or "hold", from the hold lengths of a clip.

    The first and last drawing may be cut by the clip's ends and do not vote. Runs much longer than the usual one are
    held poses within an animation and do not vote either.
    """
    if len(holds) <= 2:
        return "hold"
    inner = np.asarray(holds[1:-1] if len(holds) > 3 else holds)
    votes = inner[inner <= max(CADENCES)]
    if len(votes) * 1.5 < len(inner) or not len(votes):
        return "hold" if len(votes) < 2 else "mixed"
    lengths, counts = np.unique(votes, return_counts=True)
    best = int(counts.argmax())
    return CADENCES[int(lengths[best])] if counts[best] >= CLEAR_SHARE * len(votes) else "mixed"
