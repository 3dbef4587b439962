"""Difficulty 0, 1 or 2: easy, medium, hard. Our substitute, not ATD-12K's.

AnimeInterp grades by average motion and occluded area, with thresholds that are not in the paper. Ours: both are measured between
frames 1 and 3, ranked over the triplets of one split, the ranks averaged and the split cut into thirds. So a level says how
hard a triplet is among those beside it; the measures and the cuts are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

GRADED_BY = "toonforge: rank of motion and occlusion within the split, in thirds"
LEVELS = ("easy", "medium", "hard")
RELATIVE, ABSOLUTE_PX2 = 0.01, 0.5     # of the forward-backward test

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grades:
    levels: tuple[int, ...]            # of each triplet, in the order given
    cuts: tuple[float, float]          # mean rank from which on it is medium, and hard


def occluded_share(forward: Floats, backward: Floats) -> float:
    """Share of pixels whose way there and back does not return: |f + b(f)|^2 > 0.01 (|f|^2 + |b(f)|^2) + 0.5, in pixels.

    forward, backward: [h, w, 2]. Pixels that leave the picture count as occluded.
    """
    height, width = forward.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    to_x, to_y = x + forward[..., 0], y + forward[..., 1]
    back = cv2.remap(backward, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (to_x < 0) | (to_y < 0) | (to_x > width - 1) | (to_y > height - 1)
    gap = ((forward + back) ** 2).sum(axis=-1)
    allowed = RELATIVE * ((forward ** 2).sum(axis=-1) + (back ** 2).sum(axis=-1)) + ABSOLUTE_PX2
    return float(((gap > allowed) | outside).mean(dtype=np.float64))


def grade(means: Sequence[float], occluded: Sequence[float]) -> Grades:
    """Levels of triplets by mean motion and occluded share; a triplet alone is easy."""
    if not means:
        return Grades((), (0.0, 0.0))
    ranks = (_ranks(means) + _ranks(occluded)) / 2
    one, two = (float(np.quantile(ranks, share)) for share in (1 / 3, 2 / 3))
    return Grades(tuple(int(rank > one) + int(rank > two) for rank in ranks), (round(one, 6), round(two, 6)))


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks in [0, 1]; equal values share the mean of theirs."""
    return np.asarray((rankdata(values) - 1) / max(1, len(values) - 1), np.float64)
