"""When the middle drawing is on the way from the first to the last: 0.5 is halfway.

Animators ease in and out, so drawings at equal spacing are not at equal steps of the motion, and a model that is asked for
t = 0.5 is scored against another moment. Ours: at each moving pixel of the middle frame, the share of the way from frame 1 to
frame 3 that lies behind it, along the whole way; over the pixels the median, weighted by the length of the way. How far the
middle half of the pixels is spread tells whether to believe it: what goes to and fro has no such time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.triplets.movement import Movement

MIN_WAY_PX = 1.0             # at 960x540: of shorter ways the share is noise


@dataclass(frozen=True, slots=True)
class MidTime:
    share: float                       # of the way that lies behind, [0, 1]
    spread: float                      # between the quartiles of the pixels' shares; 0 where all agree


def moving_midtime(movement: Movement) -> MidTime | None:
    """None where nothing is drawn moving far enough from frame 1 to frame 3."""
    come = -movement.drawn_21[movement.moving].astype(np.float64)
    way = come + movement.drawn_23[movement.moving]
    length = np.hypot(way[:, 0], way[:, 1])
    far = length > MIN_WAY_PX
    if not far.any():
        return None
    shares = (come[far] * way[far]).sum(axis=1) / length[far] ** 2
    order = np.argsort(shares, kind="stable")
    weights = np.cumsum(length[far][order])
    low, middle, high = (float(shares[order][np.searchsorted(weights, weights[-1] * part)]) for part in (0.25, 0.5, 0.75))
    return MidTime(min(1.0, max(0.0, middle)), high - low)


def shown_midtime(times_s: tuple[float, float, float]) -> float:
    """The share of the time between the first and the last frame's appearance that has passed at the middle one's."""
    one, two, three = times_s
    return (two - one) / (three - one)
