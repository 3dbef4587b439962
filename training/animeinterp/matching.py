"""Which colour piece of one frame is which of the other: affinity of features, two penalties, mutual consistency.

Source: arXiv 2104.02495, section 4.1, eq. 1-5; the release normalises and penalises otherwise, and takes
ranks instead of maxima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.animeinterp.behaviour import Behaviour

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Areas [K] in pixels and centroids [K, 2] (x, y) of the pieces of one frame of a size (height, width)."""

    areas: NDArray[np.int64]
    centroids: Matrix
    size: tuple[int, int]

    @classmethod
    def of(cls, labels: NDArray[np.int32]) -> Pieces:
        """Measures the pieces 0 .. K - 1 of a label map [h, w]."""
        height, width = labels.shape
        flat = labels.ravel()
        areas = np.bincount(flat)
        x = np.bincount(flat, weights=np.tile(np.arange(width), height))
        y = np.bincount(flat, weights=np.repeat(np.arange(height), width))
        return cls(areas=areas, centroids=np.stack([x, y], axis=1) / areas[:, None], size=(height, width))


@dataclass(frozen=True, slots=True)
class Matches:
    """The partner of each piece, forward [K0] and backward [K1], and whether it is mutual. Partners of others mean little."""

    forward: NDArray[np.int64]
    backward: NDArray[np.int64]
    is_mutual: NDArray[np.bool_]            # of the pieces of the first frame
    is_mutual_backward: NDArray[np.bool_]   # of those of the second
    rank_sums: NDArray[np.int64]            # [K0, K1]: rank in its row plus rank in its column, 0 the best


def normalised(features: Matrix, behaviour: Behaviour) -> Matrix:
    """Returns features [K, N] whose rows sum to 1 (0 where there is nothing to divide); the release takes the least off first."""
    if behaviour is Behaviour.RELEASED:
        features = features - features.min(axis=1, keepdims=True)
    total = features.sum(axis=1, keepdims=True)
    return np.divide(features, total, out=np.zeros_like(features), where=total > 0)


def affinity(features0: Matrix, features1: Matrix) -> Matrix:
    """Returns the sums of the smaller of each two features, [K0, K1], of normalised features [K, N]. Eq. 1."""
    # min(a, b) = (a + b - |a - b|) / 2, and torch has the distance without a cube of intermediate values.
    distance = torch.cdist(torch.from_numpy(features0), torch.from_numpy(features1), p=1.0).numpy()
    found: Matrix = (features0.sum(axis=1)[:, None] + features1.sum(axis=1)[None] - distance) / 2
    return found


def matching_degree(found: Matrix, pieces0: Pieces, pieces1: Pieces, behaviour: Behaviour) -> Matrix:
    """Returns the affinity [K0, K1] less the penalties of distance and size. Eq. 2-4."""
    height, width = pieces0.size
    apart = np.linalg.norm(pieces0.centroids[:, None] - pieces1.centroids[None], axis=2) / np.hypot(height, width)
    areas0, areas1 = pieces0.areas[:, None].astype(np.float64), pieces1.areas[None].astype(np.float64)
    if behaviour is Behaviour.PAPER:
        difference = np.abs(areas0 - areas1) / (height * width)
        return found - 0.2 * np.where(apart > 0.15, apart, 0) - 0.05 * difference
    ratio = np.maximum(areas0 / areas1, areas1 / areas0)
    return found - np.where(apart > 0.14, apart, 0) / 5 - np.where(ratio > 3, ratio, 0) / 20


def match(degree: Matrix, behaviour: Behaviour) -> Matches:
    """Returns partners for a matching degree [K0, K1]; of equal degrees the first counts. Eq. 5."""
    rank_sums = _ranks(degree) + _ranks(degree.T).T
    if behaviour is Behaviour.PAPER:
        forward, backward = degree.argmax(axis=1), degree.argmax(axis=0)
    else:
        forward, backward = rank_sums.argmin(axis=1), rank_sums.argmin(axis=0)
    is_best = rank_sums == 0       # at most one in each row and column
    return Matches(forward=forward, backward=backward, is_mutual=is_best.any(axis=1), is_mutual_backward=is_best.any(axis=0),
                   rank_sums=rank_sums)


def _ranks(values: Matrix) -> NDArray[np.int64]:
    """Returns the place of each value in its row, the largest being 0."""
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(values.shape[1])[None], axis=1)
    return ranks
