"""Trapped-ball filling: pieces are what a ball reaches that cannot slip through gaps of the lines.

Source: Zhang et al. 2009, as arXiv 2104.02495 uses it; the radii 3, 2, 1, 0 and what is kept of each are those of the release.

A fill is the ball-shaped closure of one component of the eroded free map, so that balls of different components of the free map
never meet: each fill needs only its own surroundings, and components that a neighbour cuts are looked at again in their turn.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.animeinterp.contours import LINE

MAX_BALL_FILLS = 1000
MAX_FLOOD_FILLS = 20_000
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
BALLS = {
    1: CROSS,
    2: np.array([[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], np.uint8),
    3: np.array([[0, 0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1, 0], [1] * 7, [1] * 7, [1] * 7, [0, 1, 1, 1, 1, 1, 0],
                 [0, 0, 0, 1, 0, 0, 0]], np.uint8),
}


@dataclass(frozen=True, slots=True)
class Fill:
    """One filled place: a mask [h, w] of bool whose corner is at (top, left)."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def area_px(self) -> int:
        return int(np.count_nonzero(self.mask))

    def paint(self, picture: NDArray[np.generic], value: int) -> None:
        height, width = self.mask.shape
        picture[self.top:self.top + height, self.left:self.left + width][self.mask] = value


@dataclass(frozen=True, slots=True)
class Filled:
    """Labels [h, w] int32, 0 on lines, and how many there are after each stage: balls of 3, 2, 1, and flooding."""

    labels: NDArray[np.int32]
    num_after: tuple[int, int, int, int]


def fill_map(free: NDArray[np.uint8]) -> Filled:
    """Labels a map [h, w] (255 free, 0 line) in the order of filling.

    Of the largest ball only the largest fill is kept, normally the background, and its equals; where it fits nowhere,
    nothing (the release crashes there).
    """
    left = free.copy()
    labels = np.zeros(free.shape, np.int32)
    num = 0
    counts = []
    for radius in (3, 2, 1):
        fills = ball_fills(left, radius)
        if radius == 3 and fills:
            largest = max(fill.area_px for fill in fills)
            fills = [fill for fill in fills if fill.area_px == largest]
        for fill in fills:
            num += 1
            fill.paint(labels, num)
            fill.paint(left, LINE)
        counts.append(num)
    flooded = components(left)
    flooded[flooded > MAX_FLOOD_FILLS] = 0
    labels = np.where(flooded > 0, flooded + num, labels)
    three, two, one = counts
    return Filled(labels=labels, num_after=(three, two, one, num + int(flooded.max())))


def components(free: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Numbers the 4-connected components of a map from 1 in the raster order of their first pixels; 0 elsewhere."""
    num, found = cv2.connectedComponents(free, connectivity=4, ltype=cv2.CV_32S)
    first = _first_places(np.asarray(found, np.int32).ravel(), num)
    rank = np.zeros(num, np.int32)
    rank[1 + np.argsort(first[1:])] = np.arange(1, num)
    return rank[found]


def ball_fills(free: NDArray[np.uint8], radius: int) -> list[Fill]:
    """Returns what balls fill in a map [h, w], at most 1000 fills, each begun at the first pixel where a ball still fits."""
    ball = BALLS[radius]
    room = _Room.of(np.asarray(cv2.erode(free, ball), np.uint8))
    fills: list[Fill] = []
    while len(fills) < MAX_BALL_FILLS and (found := room.pop_first()) is not None:
        top, left, mask = found
        # A ball's middle in `mask` fills `fill`; every middle whose ball would touch that is gone.
        fill = _dilated(mask, ball)
        gone = _dilated(fill, ball)
        room.clear(top - 2 * radius, left - 2 * radius, gone)
        fills.append(_cropped(Fill(top - radius, left - radius, fill > 0), free.shape))
    return fills


class _Room:
    """Where the ball's middle may be: components, looked up by the raster position of their first pixel."""

    def __init__(self, labels: NDArray[np.int32], boxes: dict[int, tuple[int, int, int, int]], first: NDArray[np.int64]) -> None:
        self._labels, self._boxes = labels, boxes
        self._heap = [(int(first[label]), label) for label in boxes]
        self._cut: set[int] = set()
        self._next = len(boxes) + 1
        heapq.heapify(self._heap)

    @classmethod
    def of(cls, room: NDArray[np.uint8]) -> _Room:
        num, found, stats, _ = cv2.connectedComponentsWithStats(room, connectivity=4, ltype=cv2.CV_32S)
        labels = np.asarray(found, np.int32)
        boxes = {label: _box(stats[label], 0, 0) for label in range(1, num)}
        return cls(labels, boxes, _first_places(labels.ravel(), num))

    def pop_first(self) -> tuple[int, int, NDArray[np.uint8]] | None:
        """Removes the first component; returns its top, left and mask. None where no room is left."""
        while self._heap:
            _, label = heapq.heappop(self._heap)
            top, left, bottom, right = self._boxes.pop(label)
            mask = (self._labels[top:bottom, left:right] == label).view(np.uint8)
            if label not in self._cut:
                self._labels[top:bottom, left:right][mask > 0] = 0
                return top, left, mask
            self._split(mask, top, left)        # its first pixel comes no earlier than it did before the cut
        return None

    def clear(self, top: int, left: int, mask: NDArray[np.uint8]) -> None:
        """Takes the room away where the mask, which may reach over the border, is set."""
        height, width = self._labels.shape
        inner = mask[max(0, -top):height - top, max(0, -left):width - left]
        top, left = max(0, top), max(0, left)
        window = self._labels[top:top + inner.shape[0], left:left + inner.shape[1]]
        hit = (window > 0) & (inner > 0)
        if hit.any():
            self._cut.update(np.unique(window[hit]).tolist())
            window[hit] = 0

    def _split(self, mask: NDArray[np.uint8], top: int, left: int) -> None:
        num, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4, ltype=cv2.CV_32S)
        window = self._labels[top:top + mask.shape[0], left:left + mask.shape[1]]
        window[mask > 0] = parts[mask > 0] + (self._next - 1)
        first = _first_places(np.asarray(parts, np.int32).ravel(), num)
        for part in range(1, num):
            row, column = divmod(int(first[part]), mask.shape[1])
            self._boxes[self._next] = _box(stats[part], top, left)
            heapq.heappush(self._heap, ((top + row) * self._labels.shape[1] + left + column, self._next))
            self._next += 1


def _first_places(labels: NDArray[np.int32], num: int) -> NDArray[np.int64]:
    """Returns the first index of each label 0 .. num - 1 in a flat array that holds all of them (0 where it lacks one)."""
    first = np.zeros(num, np.int64)
    first[labels[::-1]] = np.arange(len(labels) - 1, -1, -1)      # of several values for one place the last one stays
    return first


def _box(stats: NDArray[np.int32], top: int, left: int) -> tuple[int, int, int, int]:
    x, y, width, height = (int(value) for value in stats[:4])
    return top + y, left + x, top + y + height, left + x + width


def _dilated(mask: NDArray[np.uint8], ball: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Dilates into a frame that is larger by the ball's radius on each side."""
    margin = ball.shape[0] // 2
    framed = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.dilate(framed, ball), np.uint8)


def _cropped(fill: Fill, shape: tuple[int, ...]) -> Fill:
    mask = fill.mask[max(0, -fill.top):shape[0] - fill.top, max(0, -fill.left):shape[1] - fill.left]
    return Fill(max(0, fill.top), max(0, fill.left), mask)
