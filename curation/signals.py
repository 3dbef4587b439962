"""Small per-frame signals of the survey: everything later decisions about holds, cuts and fades are made from.

A frame is shrunk in YUV, never converted to full-size RGB: luma to about 240 pixels wide by an even factor f, from two rows
of each cell (all of them cost four times as much and change no decision), chroma to half of that. PySceneDetect's
ContentDetector and HistogramDetector are fed with that picture, so that nothing is decoded twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, HistogramDetector

from curation.planes import as_planar, chroma_planes, luma_plane

THUMB_W, THUMB_H = 32, 18          # luma; chroma is stored at half of it
CHANGED = 6                        # grey levels; above what compression does to a held drawing at this size
LOUD = 40.0                        # change of luma from which chroma cannot matter any more
FINE_PX = 9                        # what is finer is drawing, what is coarser is light
BLACK = 40                         # luma from which a pixel is lit; black is 16, and scaling mixes bar and picture
LIT_SHARE = 0.04                   # of a row or column
MIN_LIT = 0.3                      # of each side: less is a dark scene
BOX_EVERY = 8                      # frames between two looks at the bars

Gray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FrameSignals:
    """What one frame says, alone and against the frame before it. Changes are in grey levels (0..255)."""

    luma_mean: float
    luma_std: float
    detail: float                   # mean absolute high-pass: how much fine drawing there is
    structure: float                # correlation of that fine drawing with the frame before's, -1..1
    change_mean: float              # of luma, whole picture
    change_peak: float              # largest 3x3 mean, luma or, below LOUD, chroma: a blink is local
    change_area: float              # share of the picture whose 3x3 mean exceeds CHANGED
    content: float                  # PySceneDetect ContentDetector: mean of the three below
    content_hue: float
    content_sat: float
    content_lum: float
    histogram: float                # PySceneDetect HistogramDetector: correlation with the frame before, -1..1
    thumb: bytes                    # THUMB_H x THUMB_W luma, then u and v at half of it


class FrameMeter:
    """Measures frames in order."""

    def __init__(self, width: int, height: int, signal_width_px: int) -> None:
        self.factor = shrink_factor(width, signal_width_px)
        self.size = (max(1, width // self.factor), max(1, height // self.factor))
        self.half = (max(1, self.size[0] // 2), max(1, self.size[1] // 2))
        self.small: Gray | None = None          # luma of the last frame at half the signal size
        self.last_small: Gray | None = None     # that of the frame before
        self._bars = LitBox(self.half)
        self._luma: Gray | None = None
        self._fine: NDArray[np.float32] | None = None
        self._chroma: tuple[Gray, Gray] | None = None
        self._stats = _Stats()
        self._content = _Content()
        self._histogram = HistogramDetector()
        self._content.stats_manager = self._histogram.stats_manager = self._stats
        self._index = 0

    def measure(self, picture: av.VideoFrame) -> FrameSignals:
        """Signals of the next frame; the first frame's changes are 0 and its histogram correlation is 1."""
        step = max(1, self.factor // 2)
        picture = as_planar(picture)
        luma = shrink(luma_plane(picture, row_step=step), self.size)
        chroma = self._shrunk_chroma(picture, self.factor)
        last, last_chroma = self._luma, self._chroma
        self._luma, self._chroma = luma, chroma

        mean, peak, area = (0.0, 0.0, 0.0) if last is None else change(last, luma)
        if last_chroma is not None and peak < LOUD:
            peak = max(peak, *(change(old, new)[1] for old, new in zip(last_chroma, chroma, strict=True)))
        self.last_small, self.small = self.small, shrink(luma, self.half)
        thumb_size = (THUMB_W // 2, THUMB_H // 2)
        planes = [cv2.resize(self.small, (THUMB_W, THUMB_H), interpolation=cv2.INTER_AREA)]
        planes += [cv2.resize(plane, thumb_size, interpolation=cv2.INTER_LINEAR) for plane in chroma]    # smooth by nature
        luma_mean, luma_std = cv2.meanStdDev(self.small)
        last_fine, self._fine = self._fine, fine_drawing(self.small)
        inside = self._bars.update(self.small, self._index)
        detected = self._detect(self.small, chroma)
        clear = tuple(away_from_bars(span, size) for span, size in zip(inside, self.small.shape, strict=True))
        structure = 1.0 if last_fine is None else correlation(last_fine[clear], self._fine[clear])
        detail = cv2.norm(self._fine, cv2.NORM_L1) / self._fine.size
        return FrameSignals(float(luma_mean[0, 0]), float(luma_std[0, 0]), detail, structure, mean, peak, area, *detected,
                            b"".join(plane.tobytes() for plane in planes))

    def last_two(self) -> tuple[Gray, Gray] | None:
        """Small luma of the last two frames without black bars, whose edges never move and would hide what does."""
        if self.last_small is None or self.small is None:
            return None
        return np.ascontiguousarray(self.last_small[self._bars.box]), np.ascontiguousarray(self.small[self._bars.box])

    def _shrunk_chroma(self, picture: av.VideoFrame, step: int) -> tuple[Gray, Gray]:
        planes = chroma_planes(picture, row_step=step)
        if planes is None:
            neutral = np.full((self.half[1], self.half[0]), 128, np.uint8)
            return neutral, neutral
        return shrink(planes[0], self.half), shrink(planes[1], self.half)

    def _detect(self, luma: Gray, chroma: tuple[Gray, Gray]) -> tuple[float, float, float, float, float]:
        """PySceneDetect's own scores of one frame: content, its hue, saturation and luma parts, histogram."""
        bgr = cv2.cvtColor(cv2.merge([luma, chroma[1], chroma[0]]), cv2.COLOR_YCrCb2BGR)
        time = FrameTimecode(self._index, fps=24.0)    # only its order matters: times are ours, by PTS
        self._index += 1
        seen = self._stats.values = {}
        self._content.process_frame(time, bgr)
        self._histogram.process_frame(time, np.ascontiguousarray(bgr[self._bars.box]))    # bars would make all alike
        if not seen:
            return 0.0, 0.0, 0.0, 0.0, 1.0
        histogram = next(value for name, value in seen.items() if name.startswith("hist_diff"))
        return seen["content_val"], seen["delta_hue"], seen["delta_sat"], seen["delta_lum"], histogram


class _Content(ContentDetector):
    """Without the edge part, which its default weights ignore and which takes half of its time."""

    def _detect_edges(self, lum: Gray) -> None:
        return None


class _Stats:
    """Takes the place of PySceneDetect's StatsManager for one frame."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def register_metrics(self, names: object) -> None:
        """Nothing to prepare."""

    def set_metrics(self, time: object, values: dict[str, float]) -> None:
        self.values.update({name: float(value) for name, value in values.items() if value is not None})

    def metrics_exist(self, time: object, names: object) -> bool:
        return False


class LitBox:
    """The part of the small picture that was ever lit, so far; what lies outside are black bars."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._brightest = np.zeros((size[1], size[0]), np.uint8)
        self.box = (slice(0, size[1]), slice(0, size[0]))

    def update(self, luma: Gray, index: int) -> tuple[slice, slice]:
        """Takes the next picture; returns (rows, columns) of the lit part."""
        cv2.max(self._brightest, luma, dst=self._brightest)
        if index % BOX_EVERY == 1:
            lit = self._brightest > BLACK
            rows, columns = np.flatnonzero(lit.mean(axis=1) > LIT_SHARE), np.flatnonzero(lit.mean(axis=0) > LIT_SHARE)
            if len(rows) > MIN_LIT * len(lit) and len(columns) > MIN_LIT * lit.shape[1]:
                self.box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        return self.box


def shrink_factor(width: int, target: int) -> int:
    """The even factor (or 1) that brings `width` nearest to `target`."""
    choices = [1, *range(2, max(4, 2 * width // target + 4), 2)]
    return min(choices, key=lambda factor: (abs(width / factor - target), -factor))


def shrink(plane: Gray, size: tuple[int, int]) -> Gray:
    """Area average to (width, height); cropped first to whole cells, for which there are fast ways."""
    width, height = size
    across, down = plane.shape[1] // width, plane.shape[0] // height
    plane = plane[: height * down or None, : width * across or None]
    if across > 1 and across % 2 == 0 and down == 2:
        plane, across, down = _area(plane, (across // 2 * width, height)), across // 2, 1
    if across > 1 and down == 1:
        return _mean_of_columns(plane, across)
    return plane if plane.shape == (height, width) else _area(plane, size)


def _mean_of_columns(plane: Gray, count: int) -> Gray:
    """Means of `count` neighbours along the rows. Of OpenCV's area scaling only 2x2 is vectorised, so rows are doubled for it."""
    if count % 2 == 0:
        plane, count = _area(np.repeat(plane, 2, axis=0), (plane.shape[1] // 2, plane.shape[0])), count // 2
        return _mean_of_columns(plane, count)
    if count == 1:
        return plane
    return np.ascontiguousarray(cv2.blur(plane, (count, 1), anchor=(0, 0))[:, ::count], np.uint8)


def _area(plane: Gray, size: tuple[int, int]) -> Gray:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)


def change(old: Gray, new: Gray) -> tuple[float, float, float]:
    """Mean, largest 3x3 mean and changed share between two pictures of one size."""
    difference = cv2.absdiff(old, new)
    local = cv2.blur(difference, (3, 3))
    peak = float(cv2.minMaxLoc(local)[1])
    area = cv2.countNonZero(cv2.threshold(local, CHANGED, 255, cv2.THRESH_BINARY)[1]) / local.size
    return float(cv2.mean(difference)[0]), peak, area


def away_from_bars(span: slice, size: int) -> slice:
    """A lit span of rows or columns without what the high-pass mixes with a bar's edge, which never moves."""
    start = span.start + FINE_PX // 2 if span.start > 0 else 0
    stop = span.stop - FINE_PX // 2 if span.stop < size else size
    return slice(start, stop) if stop - start > FINE_PX else span


def fine_drawing(picture: Gray) -> NDArray[np.float32]:
    """High-pass of a small picture: lines and texture without lighting."""
    plain = picture.astype(np.float32)
    return plain - cv2.blur(plain, (FINE_PX, FINE_PX))


def correlation(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Correlation of two high-passed pictures, damped to 0 where both are flat."""
    noise = float(left.size)             # one grey level each: what is left of a flat picture after coding
    power = (float(np.vdot(left, left)) + noise) * (float(np.vdot(right, right)) + noise)
    return (float(np.vdot(left, right)) + noise) / power**0.5


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Thumbnails of a film's frames: luma uint8 [n, h, w], u and v at half of that; black bars cut off."""

    luma: Gray
    u: Gray
    v: Gray

    @classmethod
    def unpack(cls, packed: Gray, box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)) -> Thumbs:
        """From the bytes of FrameSignals.thumb [n, bytes]; `box`: left, top, right, bottom of the picture, in [0, 1]."""
        count, luma_size, chroma_size = len(packed), THUMB_W * THUMB_H, THUMB_W * THUMB_H // 4
        planes = [packed[:, :luma_size].reshape(count, THUMB_H, THUMB_W)]
        for start in (luma_size, luma_size + chroma_size):
            planes.append(packed[:, start : start + chroma_size].reshape(count, THUMB_H // 2, THUMB_W // 2))
        return cls(*(_boxed(plane, box) for plane in planes))

    def pick(self, frames: NDArray[np.int64]) -> Thumbs:
        return Thumbs(self.luma[frames], self.u[frames], self.v[frames])


def _boxed(plane: Gray, box: tuple[float, float, float, float]) -> Gray:
    """Whole pixels inside the box, at least one."""
    height, width = plane.shape[1:]
    left, top = min(math.ceil(box[0] * width - 0.1), width - 1), min(math.ceil(box[1] * height - 0.1), height - 1)
    right, bottom = max(math.floor(box[2] * width + 0.1), left + 1), max(math.floor(box[3] * height + 0.1), top + 1)
    return plane[:, top:bottom, left:right]
