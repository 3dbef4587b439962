"""Coarse flow of matched colour pieces: a shift each, and a small deformation found by OpenCV's DIS flow.

Source: arXiv 2104.02495, section 4.1 (flow generation, eq. 6); how the deformation is found, and which pieces are believed, are
the release's. The paper's variational problem is left to the same DIS flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from training.animeinterp.behaviour import EXACT, Behaviour, Effort
from training.animeinterp.matching import Pieces
from training.animeinterp.splatting import EPSILON

MAX_SHIFT_PX = 250
MIN_AREA_PX, MAX_AREA_SHARE = 50, 0.12
MAX_AREA_RATIO = 3
MIN_OVERLAP = 0.8
LEAST_SIDE_PX, MARGIN_PX = 16, 10       # of the canvas a patch is laid on
DARK = 20                               # mean grey below which the release brightens a piece, whose outside is black
SPLAT_FLOOR = 0.05
GRADIENT_ITERATIONS = 50
Box = tuple[slice, slice]


class Deformation:
    """OpenCV's DIS flow between two patches on canvases of one size, with the release's settings as far as `effort` allows."""

    def __init__(self, effort: Effort) -> None:
        self._half_from_px = effort.half_from_px
        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._estimator.setGradientDescentIterations(GRADIENT_ITERATIONS)
        self._estimator.setVariationalRefinementIterations(effort.variational_iterations)

    def between(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the flow [h, w, 2] from one grey canvas [h, w] to the other."""
        is_halved = self._half_from_px is not None and min(first.shape) >= self._half_from_px
        self._estimator.setFinestScale(1 if is_halved else 0)
        # The stubs want a flow to begin with; OpenCV takes None.
        return np.asarray(self._estimator.calc(first, second, None), np.float32)  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Frame:
    """What flow needs of a frame: grey values and labels [h, w], the pieces' measures and boxes (rows, columns)."""

    gray: NDArray[np.uint8]
    labels: NDArray[np.int32]
    pieces: Pieces
    boxes: list[Box]

    @classmethod
    def of(cls, bgr_u8: NDArray[np.uint8], labels: NDArray[np.int32]) -> Frame:
        """Takes a picture [h, w, 3] and its labels [h, w], each of 0 .. K - 1 being present."""
        return cls(gray=np.asarray(cv2.cvtColor(bgr_u8, cv2.COLOR_BGR2GRAY), np.uint8), labels=labels, pieces=Pieces.of(labels),
                   boxes=find_objects(labels + 1))

    def patch(self, piece: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Returns the grey values of a piece's box, 0 outside the piece, and the piece's mask there."""
        box = self.boxes[piece]
        mask = self.labels[box] == piece
        return np.where(mask, self.gray[box], 0).astype(np.uint8), mask


def coarse_flow(frame0: Frame, frame1: Frame, partners: NDArray[np.int64], is_mutual: NDArray[np.bool_],
                behaviour: Behaviour, effort: Effort = EXACT) -> NDArray[np.float32]:
    """Returns the flow [2, h, w] (x, y) from frame0 to frame1: 0 outside mutually matched, believed pieces."""
    flow = np.zeros((2, *frame0.labels.shape), np.float32)
    estimate = released_piece_flow if behaviour is Behaviour.RELEASED else paper_piece_flow
    with _one_thread():
        estimator = Deformation(effort)
        for piece in np.flatnonzero(is_mutual).tolist():
            found = estimate(estimator, frame0, frame1, piece, int(partners[piece]))
            if found is not None:
                box = frame0.boxes[piece]
                mask = frame0.labels[box] == piece
                flow[:, box[0], box[1]][:, mask] = found.T
    return flow


def is_believable(pieces0: Pieces, pieces1: Pieces, piece: int, partner: int) -> bool:
    """The release's tests of a matched piece before its deformation is known: shift, area, and ratio of areas."""
    area0, area1 = int(pieces0.areas[piece]), int(pieces1.areas[partner])
    height, width = pieces0.size
    shift_px = float(np.linalg.norm(pieces1.centroids[partner] - pieces0.centroids[piece]))
    return (shift_px <= MAX_SHIFT_PX and MIN_AREA_PX < area0 < MAX_AREA_SHARE * height * width
            and max(area0, area1) < MAX_AREA_RATIO * min(area0, area1))


def released_piece_flow(estimator: Deformation, frame0: Frame, frame1: Frame, piece: int, partner: int,
                        ) -> NDArray[np.float32] | None:
    """Returns the flow [pixels, 2] of a piece, in raster order, or None where it is not believed."""
    if not is_believable(frame0.pieces, frame1.pieces, piece, partner):
        return None
    (patch0, mask0), (patch1, mask1) = frame0.patch(piece), frame1.patch(partner)
    shape = tuple(max(side0, side1, LEAST_SIDE_PX) + MARGIN_PX for side0, side1 in zip(mask0.shape, mask1.shape, strict=True))
    at0, at1 = _centred(shape, mask0.shape), _centred(shape, mask1.shape)
    deformation = estimator.between(_laid(_brightened(patch0, mask0), shape, at0), _laid(_brightened(patch1, mask1), shape, at1))
    found: NDArray[np.float32] = deformation[at0][mask0]
    masks = (_laid(mask.view(np.uint8), shape, at) > 0 for mask, at in ((mask0, at0), (mask1, at1)))
    if overlap(found, *masks) <= MIN_OVERLAP:
        return None
    return found + _box_centre(frame1.boxes[partner]) - _box_centre(frame0.boxes[piece])


def paper_piece_flow(estimator: Deformation, frame0: Frame, frame1: Frame, piece: int, partner: int,
                     ) -> NDArray[np.float32]:
    """Returns the flow [pixels, 2] of a piece: centroids are laid on each other, to the pixel, before the deformation."""
    (patch0, mask0), (patch1, mask1) = frame0.patch(piece), frame1.patch(partner)
    shift = np.rint(frame1.pieces.centroids[partner] - frame0.pieces.centroids[piece]).astype(np.int64)
    corner0 = np.array([side.start for side in frame0.boxes[piece]])
    corner1 = np.array([side.start for side in frame1.boxes[partner]]) - shift[::-1]
    least = np.minimum(corner0, corner1)
    extent = np.maximum(corner0 + mask0.shape, corner1 + mask1.shape) - least
    shape = tuple(int(side) for side in np.maximum(extent, LEAST_SIDE_PX) + MARGIN_PX)
    first = least - MARGIN_PX // 2
    at0, at1 = _placed(corner0 - first, mask0.shape), _placed(corner1 - first, mask1.shape)
    deformation = estimator.between(_laid(patch0, shape, at0), _laid(patch1, shape, at1))
    found: NDArray[np.float32] = deformation[at0][mask0] + shift.astype(np.float32)
    return found


def _brightened(patch: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if patch[mask].mean() >= DARK:
        return patch
    return np.where(mask, 0.8 * patch + 40, 0).astype(np.uint8)


def overlap(flow: NDArray[np.float32], moved: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """Returns the share of a moved piece that lies in the target; masks are [h, w], the flow [pixels, 2] is the piece's.

    The piece is where average splatting of its mask leaves at least a twentieth. That what surrounds it stays in place
    meanwhile is our reading: it agrees with the stored flows at the limit, and moving it along does not.
    """
    height, width = moved.shape
    rows, columns = np.nonzero(moved)
    x, y = columns + flow[:, 0].astype(np.float64), rows + flow[:, 1].astype(np.float64)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    places, shares = [], []
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        places.append((row * width + column)[is_inside])
        shares.append(((1 - np.abs(x - column)) * (1 - np.abs(y - row)))[is_inside])
    arrived = np.bincount(np.concatenate(places), weights=np.concatenate(shares), minlength=moved.size).reshape(moved.shape)
    lies = arrived >= SPLAT_FLOOR * (arrived + ~moved + EPSILON)
    lies &= arrived > 0
    return int(np.count_nonzero(lies & target)) / max(int(np.count_nonzero(lies)), 1)


def _centred(shape: tuple[int, ...], inner: tuple[int, ...]) -> Box:
    return _placed(np.array([(side - part) // 2 for side, part in zip(shape, inner, strict=True)]), inner)


def _placed(corner: NDArray[np.int64], shape: tuple[int, ...]) -> Box:
    top, left = (int(value) for value in corner)
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def _laid(patch: NDArray[np.uint8], shape: tuple[int, ...], at: Box) -> NDArray[np.uint8]:
    canvas = np.zeros(shape, np.uint8)
    canvas[at] = patch
    return canvas


def _box_centre(box: Box) -> NDArray[np.float32]:
    rows, columns = box
    return np.array([(columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2], np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """DIS cuts a picture into as many stripes as there are threads, and its result depends on them."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
