"""Motion between two drawings: the camera's, by a robust global fit, and what is drawn moving against it.

Flow is OpenCV's DIS on the survey's small luma, halved. Lengths are shares of the picture's diagonal, so films of different sizes
compare. Flow is only believed where the picture really changed: on black or flat areas every estimator invents motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

GRID_PX = 5                  # distance of the sampled vectors
FIT_ROUNDS = 4
FOLLOWS_PX = 0.5             # of the camera fit
STILL_CAMERA = 1.3           # a moving camera must leave so much less unexplained than one that stands still
CHANGED_GREY = 6.0           # a grid cell counts as changed from this mean difference on
TEXTURED_GREY = 4.0          # and as textured from this mean of the 3x3 range on
STILL_PX = 0.45             # residual below this is estimation noise: on a moved still 90 % of the errors are under 0.4

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]
Complexes = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class PairMotion:
    """Motion from one drawing to the next; pan and drawn lengths in shares of the diagonal."""

    pan_x: float             # of the camera: positive when the picture moves right
    pan_y: float             # positive when the picture moves down
    zoom: float              # relative growth, 0 none
    turn: float              # radians
    fit: float               # share of the textured picture that follows the camera fit, 0..1
    total_mean: float        # mean length of all vectors on texture or change
    drawn_mean: float        # mean over the picture of what is left after the camera is taken out
    drawn_peak: float        # its 99th percentile over the changed cells
    drawn_area: float        # share of the picture that changed and moves against the camera
    rest_peak: float         # grey levels: largest 3x3 mean of what differs once the camera's motion is undone
    rest_area: float         # share of the picture in which it does, beyond CHANGED_GREY


class FlowMeter:
    """DIS flow and camera fit for small pictures of one size (about 120 pixels wide)."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._dis.setFinestScale(1)                # its 2 is meant for pictures of 500 pixels and more
        self._dis.setPatchStride(5)
        self._dis.setGradientDescentIterations(8)

    def measure(self, old: Gray, new: Gray) -> PairMotion:
        """Motion from `old` to `new`, both uint8 [h, w]; no motion for pictures under 16 pixels."""
        if min(old.shape) < 16:
            return PairMotion(0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        start = np.zeros((*old.shape, 2), np.float32)      # DIS begins from what it is given: never from the last pair
        return split_motion(np.asarray(self._dis.calc(old, new, start), np.float32), old, new)


def split_motion(flow: Floats, old: Gray, new: Gray) -> PairMotion:
    """Splits flow [h, w, 2] in pixels into a camera similarity and the drawn rest.

    Positions and vectors are complex numbers (x + iy, about the centre): a similarity is then t + c z with the zoom and the
    turn as real and imaginary part of c.
    """
    grid = _grid(*old.shape)
    diagonal = float(np.hypot(*old.shape))
    sampled = flow[GRID_PX // 2 :: GRID_PX, GRID_PX // 2 :: GRID_PX].astype(np.float64)
    places, vectors = grid.places, sampled.reshape(-1, 2).view(np.complex128).ravel()
    texture = _cell_mean(np.asarray(cv2.morphologyEx(old, cv2.MORPH_GRADIENT, _RANGE_3X3), np.uint8), grid.cells)
    changed = _cell_mean(np.asarray(cv2.absdiff(old, new), np.uint8), grid.cells) > CHANGED_GREY

    weight = np.minimum(texture, 40.0) + 1e-3
    textured = texture > TEXTURED_GREY
    shift, growth = fit_similarity(places, vectors, weight)
    rest = np.abs(vectors - (shift + growth * places))
    if weight @ np.minimum(np.abs(vectors), 1.0) < STILL_CAMERA * (weight @ np.minimum(rest, 1.0)):
        shift, growth, rest = 0j, 0j, np.abs(vectors)
    follows = float(weight[textured & (rest < FOLLOWS_PX)].sum() / weight[textured].sum()) if textured.any() else 1.0
    moving = changed & (rest > STILL_PX)
    seen = textured | changed
    undone = _undone(old, new, shift, growth)
    return PairMotion(
        pan_x=shift.real / diagonal, pan_y=shift.imag / diagonal, zoom=growth.real, turn=growth.imag, fit=follows,
        total_mean=float(np.abs(vectors[seen]).mean() / diagonal) if seen.any() else 0.0,
        drawn_mean=float(rest[moving].sum() / rest.size / diagonal),
        drawn_peak=float(np.partition(rest[moving], -1 - moving.sum() // 100)[-1 - moving.sum() // 100] / diagonal)
        if moving.any() else 0.0,
        drawn_area=float(moving.mean()), rest_peak=float(undone.max()), rest_area=float((undone > CHANGED_GREY).mean()))


def fit_similarity(places: Complexes, vectors: Complexes, weight: NDArray[np.float64]) -> tuple[complex, complex]:
    """Weighted robust fit of vectors = shift + growth * places; returns (shift, growth).

    Iteratively re-weighted least squares with Cauchy weights of a scale of half a pixel, from the median translation of the
    better textured half, so that a character over less than half of the texture does not pull the camera.
    """
    x, y, u, v = places.real, places.imag, vectors.real, vectors.imag
    terms = np.stack([np.ones(len(x)), x, y, u, v, x * x + y * y, x * u + y * v, x * v - y * u, u * u + v * v])
    strong = weight >= _median(weight)
    shift, growth = complex(_median(u[strong]), _median(v[strong])), 0j
    for _ in range(FIT_ROUNDS):
        # |vectors - shift - growth * places|^2 and every sum below are linear in the terms: two products a round
        s, t, a, b = shift.real, shift.imag, growth.real, growth.imag
        factors = [s * s + t * t, 2 * (s * a + t * b), 2 * (t * a - s * b), -2 * s, -2 * t, a * a + b * b, -2 * a, -2 * b, 1.0]
        robust = weight / (1.0 + 4.0 * np.maximum(np.asarray(factors) @ terms, 0.0))
        total, *sums, square, along, across, _ = (terms @ robust).tolist()
        centre, mean = complex(sums[0], sums[1]) / total, complex(sums[2], sums[3]) / total
        spread = square - total * abs(centre) ** 2
        growth = (complex(along, across) - total * centre.conjugate() * mean) / (spread + 1e-9)
        moved = mean - growth * centre - shift
        shift += moved
        if abs(moved) < 1e-3:
            break
    return shift, growth


@dataclass(frozen=True, slots=True)
class _Grid:
    cells: tuple[int, int]           # columns, rows
    places: Complexes                # of the sampled vectors, about the centre of the picture


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> _Grid:
    x, y = (np.arange(GRID_PX // 2, side, GRID_PX) - (side - 1) / 2 for side in (width, height))
    return _Grid((len(x), len(y)), (x[None, :] + 1j * y[:, None]).ravel())


def _median(values: NDArray[np.float64]) -> float:
    """What np.median gives, in a quarter of its time."""
    middle = [(len(values) - 1) // 2, len(values) // 2]
    low, high = np.partition(values, middle)[middle].tolist()
    return float(low + high) / 2.0


def _undone(old: Gray, new: Gray, shift: complex, growth: complex) -> Gray:
    """What differs between `new` and `old` moved along with the camera: 3x3 means, away from the picture's rim."""
    height, width = old.shape
    centre = complex((width - 1) / 2, (height - 1) / 2)
    if shift or growth:
        turn = 1.0 + growth                     # z -> z + shift + growth z, about the centre
        offset = centre + shift - turn * centre
        matrix = np.array([[turn.real, -turn.imag, offset.real], [turn.imag, turn.real, offset.imag]])
        old = np.asarray(cv2.warpAffine(old, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    rim = 1 + int(abs(shift) + abs(growth) * abs(centre))
    inside = (slice(min(rim, height // 3), -min(rim, height // 3)), slice(min(rim, width // 3), -min(rim, width // 3)))
    return np.asarray(cv2.blur(cv2.absdiff(old, new), (3, 3))[inside], np.uint8)


_RANGE_3X3 = np.ones((3, 3), np.uint8)


def _cell_mean(picture: Gray, cells: tuple[int, int]) -> NDArray[np.float64]:
    return cv2.resize(picture, cells, interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
