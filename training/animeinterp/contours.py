"""Contours of a drawn picture: where a Laplacian responds strongly, or weakly but joined to a strong place.

Source: arXiv 2104.02495, section 4.1 (a Laplacian filter, after Zhang et al. 2009); constants and order of the steps are those of
the release, as the paper gives none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FREE, LINE = 255, 0
HIGH = 20.0             # responses are relative: the picture's strongest is 255
GAIN = 20.0
FREE_ABOVE = 220        # of 255 minus the amplified response
APERTURE_PX = 5


@dataclass(frozen=True, slots=True)
class ContourStyle:
    """Smoothing before the filter, and the response that a contour keeps while it is joined to a strong one."""

    bilateral_px: int
    bilateral_color: float
    bilateral_space: float
    low: float


JAPAN = ContourStyle(bilateral_px=10, bilateral_color=10, bilateral_space=10, low=2)
DISNEY = ContourStyle(bilateral_px=30, bilateral_color=40, bilateral_space=30, low=1)     # and whatever is not Japanese


def contour_map(bgr_u8: NDArray[np.uint8], style: ContourStyle = JAPAN) -> NDArray[np.uint8]:
    """Returns [h, w] uint8 of a picture [h, w, 3]: 255 where it is plain, the darker the stronger the contour."""
    smooth = cv2.bilateralFilter(bgr_u8, style.bilateral_px, style.bilateral_color, style.bilateral_space)
    response = np.asarray(cv2.Laplacian(smooth, cv2.CV_32F, ksize=APERTURE_PX), np.float32)
    strongest = float(response.max())
    if strongest <= 0:      # a picture of one colour has no contour; the release would divide by zero
        return np.full(bgr_u8.shape[:2], FREE, np.uint8)
    response *= np.float32(255 / strongest)
    kept = np.where(joined_to_strong(response, style.low, HIGH), response, 0)
    darkness = np.float32(GAIN) * kept.max(axis=2)
    return np.clip(255 - darkness, 0, 255).astype(np.uint8)


def free_map(contours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns 255 where no line is and 0 on lines, of a contour map [h, w]."""
    return np.where(contours > FREE_ABOVE, FREE, LINE).astype(np.uint8)


def joined_to_strong(response: NDArray[np.float32], low: float, high: float) -> NDArray[np.bool_]:
    """Returns the voxels [h, w, 3] above `low` from which a path of such voxels leads to one above `high`.

    Neighbours share a face: four in the plane, and the same pixel of the next channel.
    """
    candidate, strong = response > low, response > high
    labels, offset = [], 0
    for channel in range(response.shape[2]):
        num, found = cv2.connectedComponents(candidate[..., channel].view(np.uint8), connectivity=4)
        labels.append(np.where(found > 0, found + offset, 0))
        offset += num - 1
    first, second = [], []
    for here, there in pairwise(labels):
        both = (here > 0) & (there > 0)
        first.append(here[both])
        second.append(there[both])
    ends = (np.concatenate(first), np.concatenate(second))
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(offset + 1, offset + 1))
    _, group = connected_components(graph, directed=False)
    volume = group[np.stack(labels, axis=2)]
    is_strong = np.zeros(group.max() + 1, np.bool_)
    is_strong[volume[strong]] = True
    return is_strong[volume] & candidate
