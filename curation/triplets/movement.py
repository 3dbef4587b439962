"""Flow between the three frames of a triplet, and what of it is drawn rather than the camera's.

Flow is OpenCV's DIS with its medium preset at 960x540, the size at which ATD-12K is evaluated, so numbers of films of different
sizes compare. It is believed only near places where the picture changed: on flat colours every estimator carries motion outward.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.motion import STILL_CAMERA, fit_similarity
from curation.triplets.ssim import grey_at

WIDTH_PX, HEIGHT_PX = 960, 540
GRID_PX = 20                 # distance of the vectors that the camera is fitted to
CHANGED_GREY = 8.0           # a pixel changed where its 5x5 mean differs by more
REACH_PX = 31                # moving pixels lie within half of this of a changed one
MIN_MOTION_PX = 0.75         # less is estimation noise
PEAK_SHARE = 0.25            # moving is what moves at least so much as the fastest twentieth of what changed

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Movement:
    """Flows [540, 960, 2] in pixels of that grid, x right and y down; "21": from frame 2 to frame 1."""

    flow_13: Floats
    flow_31: Floats
    flow_21: Floats
    flow_23: Floats
    drawn_21: Floats                   # the same without the camera's motion
    drawn_23: Floats
    moving: Mask                       # [540, 960]: where something is drawn moving at frame 2


class MovementMeter:
    """Measures one triplet after the other; nothing of one enters the next."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def measure(self, frames: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]) -> Movement:
        """Of three RGB uint8 [h, w, 3] pictures in order."""
        one, two, three = (grey_at(frame, (WIDTH_PX, HEIGHT_PX)) for frame in frames)
        flow_21, flow_23 = self._flow(two, one), self._flow(two, three)
        drawn_21, drawn_23 = (without_camera(flow, two) for flow in (flow_21, flow_23))
        moving = find_moving(drawn_21, drawn_23, one, two, three)
        return Movement(self._flow(one, three), self._flow(three, one), flow_21, flow_23, drawn_21, drawn_23, moving)

    def _flow(self, old: Gray, new: Gray) -> Floats:
        start = np.zeros((*old.shape, 2), np.float32)      # DIS begins from what it is given: never from the last pair
        return np.asarray(self._dis.calc(old, new, start), np.float32)


def without_camera(flow: Floats, picture: Gray) -> Floats:
    """Flow less the similarity (shift, zoom, turn) that explains clearly more of it than a camera that stands still.

    The same fit as the curation's own motion, weighted by texture; on it a walking character cannot pull the camera.
    """
    height, width = picture.shape
    x, y = (np.arange(GRID_PX // 2, side, GRID_PX) for side in (width, height))
    centre = complex((width - 1) / 2, (height - 1) / 2)
    places = (x[None, :] + 1j * y[:, None]).ravel() - centre
    sampled = flow[np.ix_(y, x)].astype(np.float64)
    vectors = sampled[..., 0].ravel() + 1j * sampled[..., 1].ravel()
    ranges = cv2.blur(cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), (GRID_PX, GRID_PX))
    weight = np.minimum(ranges[np.ix_(y, x)].astype(np.float64).ravel(), 40.0) + 1e-3
    shift, growth = fit_similarity(places, vectors, weight)
    rest = np.abs(vectors - (shift + growth * places))
    if weight @ np.minimum(np.abs(vectors), 1.0) < STILL_CAMERA * (weight @ np.minimum(rest, 1.0)):
        return flow
    across, down = np.meshgrid(np.arange(width) - centre.real, np.arange(height) - centre.imag)
    camera = np.stack([shift.real + growth.real * across - growth.imag * down,
                       shift.imag + growth.imag * across + growth.real * down], axis=-1)
    return np.asarray(flow - camera, np.float32)


def find_moving(drawn_21: Floats, drawn_23: Floats, one: Gray, two: Gray, three: Gray) -> Mask:
    """Where the middle frame changed against a neighbour and moves against the camera; all False where nothing does."""
    change = np.maximum(cv2.absdiff(one, two), cv2.absdiff(two, three))
    changed = (cv2.blur(change, (5, 5)) > CHANGED_GREY).astype(np.uint8)
    near = cv2.dilate(changed, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (REACH_PX, REACH_PX))) > 0
    length = motion_length(drawn_21, drawn_23)
    if not near.any():
        return near
    peak = float(np.quantile(length[near], 0.95))
    return np.asarray(near & (length > max(MIN_MOTION_PX, PEAK_SHARE * peak)))


def motion_length(drawn_21: Floats, drawn_23: Floats) -> Floats:
    """The longer of the two motions at each pixel of the middle frame, [h, w]: something may move in one step only."""
    return np.maximum(np.hypot(drawn_21[..., 0], drawn_21[..., 1]), np.hypot(drawn_23[..., 0], drawn_23[..., 1]))
