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
USUAL_SHARE = 0.3            # of the drawings that stay just so long
LONG_HOLD = 12               # frames: half of the drawings stay longer in a held pose
MIN_FILM_FPS = 18.0


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


def frame_ticks(pts: NDArray[np.int64], end_pts: int, ticks_per_s: float) -> float:
    """PTS ticks of one frame at the rate a film was shot at, also where repeated frames were dropped from the file.

    With a constant rate it is the time between frames. With a variable rate it is the longest time of which nearly all
    times between frames are multiples, and no rate below MIN_FILM_FPS.
    """
    times = np.diff(np.append(pts, end_pts)).astype(np.float64)
    shortest = max(1.0, float(np.quantile(times, 0.1)))
    if np.quantile(times, 0.9) < 1.2 * shortest:
        return max(1.0, float(np.median(times)))
    for parts in range(1, 5):
        tick = shortest / parts
        off = np.abs(times / tick - np.round(times / tick))
        if ticks_per_s / tick >= MIN_FILM_FPS and (off < 0.12).mean() > 0.9:
            return tick
    return shortest


def hold_times(new: NDArray[np.bool_], pts: NDArray[np.int64], end_pts: int, ticks: float) -> tuple[int, ...]:
    """How long each drawing of a span stays, in frames of `ticks`: its hold lengths, but for variable frame rates."""
    borders = np.append(pts[np.union1d([0], np.flatnonzero(new))], end_pts)
    return tuple(max(1, round(float(time) / ticks)) for time in np.diff(borders))


def cadence(holds: Sequence[int]) -> str:
    """"ones", "twos", "threes", "fours", "mixed" or "hold", from how long each drawing of a clip stays.

    On twos every drawing stays two frames or a multiple of two. The first and last drawing may be cut by the clip's ends
    and do not vote.
    """
    inner = np.asarray(holds[1:-1] if len(holds) > 3 else holds)
    if len(holds) <= 2 or np.median(inner) > LONG_HOLD:
        return "hold"
    for length in sorted(CADENCES, reverse=True):
        usual = (inner == length).mean() >= USUAL_SHARE
        if usual and (inner % length == 0).mean() >= CLEAR_SHARE and (length > 1 or (inner == 1).mean() >= CLEAR_SHARE):
            return CADENCES[length]
    return "mixed"
