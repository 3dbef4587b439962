"""The motion region of interest: one box on the middle frame around what moves most.

People drew the boxes of ATD-12K; ours is the bounding box of the connected moving region with the largest summed motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from curation.triplets.movement import HEIGHT_PX, WIDTH_PX, Movement, motion_length

JOIN_PX = 31                 # parts of a figure nearer than this are one region
MARGIN_PX = 8                # around it, so that outlines lie inside


@dataclass(frozen=True, slots=True)
class Roi:
    """In pixels of the picture it is of."""

    x: int
    y: int
    width: int
    height: int


def motion_roi(movement: Movement, width: int, height: int) -> Roi | None:
    """The box in a picture of width x height; None where nothing is drawn moving."""
    if not movement.moving.any():
        return None
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (JOIN_PX, JOIN_PX))
    joined = cv2.morphologyEx(movement.moving.astype(np.uint8), cv2.MORPH_CLOSE, near)
    num_labels, labels, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    length = motion_length(movement.drawn_21, movement.drawn_23) * movement.moving
    amounts = np.bincount(labels.ravel(), weights=length.ravel().astype(np.float64), minlength=num_labels)
    left, top, across, down, _ = (int(value) for value in boxes[1 + int(np.argmax(amounts[1:]))])
    scale_x, scale_y = width / WIDTH_PX, height / HEIGHT_PX
    x, y = int(max(0, left - MARGIN_PX) * scale_x), int(max(0, top - MARGIN_PX) * scale_y)
    right = min(width, int(np.ceil((left + across + MARGIN_PX) * scale_x)))
    bottom = min(height, int(np.ceil((top + down + MARGIN_PX) * scale_y)))
    return Roi(x, y, right - x, bottom - y)
