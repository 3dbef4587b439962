"""Shots: where one ends and the next begins, decided from the survey's signals alone.

A cut is a place where everything after differs from everything before, more than either side differs in itself. So the
comparison runs over *drawings* (holds removed), in a window on both sides: an impact flash or a wing flap comes back to
what was before and is no cut; a fast pan changes as much before as after. A second, independent signal confirms: at a
cut neither camera motion nor fine structure carries over.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import ShotsConfig
from curation.graduals import Gradual, find_graduals
from curation.signals import Thumbs

WINDOW = 4                   # drawings looked at on each side
FLOOR = 3.0                  # grey levels added to what is divided by: coding noise
LAYOUT_WINDOW = 3
COVER_FRAMES = 14            # a wing or a hand before the lens is gone again by then
COVERED = 0.72               # of the difference across: less, and the picture came back
SAME_GREY = 6                # grey levels under which a thumbnail's pixel has not changed
CUT_BIAS = 5.005
CUT_WEIGHTS = (2.073, 0.785, -5.045, -3.805, -5.982, -1.853, -2.911)


@dataclass(frozen=True, slots=True)
class Shot:
    """Frames start..end (exclusive); frames of gradual transitions belong to no shot."""

    index: int
    start: int
    end: int
    opened_by: str               # "start", "cut" or the kind of transition


@dataclass(frozen=True, slots=True)
class CutScores:
    """Per drawing: its frame, and how strongly it begins something else. All arrays [number of drawings]."""

    frame: NDArray[np.int64]
    across: NDArray[np.float64]          # smallest difference between drawings of the two sides, grey levels
    within: NDArray[np.float64]          # usual step between neighbouring drawings on the livelier side, grey levels
    largest: NDArray[np.float64]         # largest other step in the window
    structure: NDArray[np.float64]       # fine drawing carried over from the frame before, -1..1
    kept: NDArray[np.float64]            # largest share of the picture that any drawings of the two sides have in common
    comes_back: NDArray[np.bool_]        # what was before is seen again, or what follows was seen, within COVER_FRAMES
    follows: NDArray[np.float64]         # share of the picture that camera motion explains, 0..1
    layout: NDArray[np.float64]          # most alike layout of any drawings of the two sides: correlation, -1..1
    histogram: NDArray[np.float64]       # PySceneDetect's histogram correlation, -1..1

    def features(self) -> NDArray[np.float64]:
        """[number of drawings, 7]: what the cut model sees."""
        return np.stack([
            np.log((self.across + 1) / (self.within + FLOOR)), np.log((self.across + 1) / (self.largest + FLOOR)),
            self.structure, self.layout, self.kept, self.follows, self.histogram], axis=1)


def find_shots(thumbs: Thumbs, signals: dict[str, NDArray[np.float32]], new: NDArray[np.bool_], config: ShotsConfig,
               trim_frames: int) -> list[Shot]:
    """All shots of a film in order. thumbs [n], signals [n] each, new [n]."""
    graduals = find_graduals(thumbs, config.graduals)
    within = {frame for gradual in graduals for frame in range(gradual.start, gradual.end + 2)}
    cuts = [cut for cut in find_cuts(cut_scores(thumbs, signals, new), len(new), config) if cut not in within]
    return divide(len(new), cuts, graduals, trim_frames)


def cut_scores(thumbs: Thumbs, signals: dict[str, NDArray[np.float32]], new: NDArray[np.bool_]) -> CutScores:
    """Scores every drawing change of a film; measured once, thresholds are applied by `find_cuts`."""
    frame = np.flatnonzero(new)
    drawings = thumbs.pick(frame)
    lag = _lagged_differences(drawings, COVER_FRAMES + 1)
    alike = _lagged_layouts(drawings, 2 * LAYOUT_WINDOW)
    count, step = len(frame), lag[1]
    across = _over_pairs(lag, count, WINDOW, np.minimum, np.inf)
    layout = _over_pairs(alike, count, LAYOUT_WINDOW, np.maximum, -1.0)
    kept = _over_pairs(_lagged_common(drawings, 2 * LAYOUT_WINDOW), count, LAYOUT_WINDOW, np.maximum, 0.0)
    across[~np.isfinite(across)] = 0.0
    around = np.zeros((2 * WINDOW, count))
    for offset in range(1, WINDOW + 1):
        around[offset - 1, :-offset] = step[offset:]
        around[WINDOW + offset - 1, offset:] = step[:-offset]
    within = np.maximum(np.median(around[:WINDOW], axis=0), np.median(around[WINDOW:], axis=0))

    def at_drawing(name: str, missing: float) -> NDArray[np.float64]:
        return np.nan_to_num(signals[name][frame].astype(np.float64), nan=missing)

    return CutScores(
        frame=frame, across=across, within=within, largest=around.max(axis=0), structure=at_drawing("structure", 1.0),
        layout=layout, kept=kept, comes_back=_comes_back(lag, across, frame), follows=at_drawing("fit", 1.0),
        histogram=at_drawing("histogram", 1.0))


def cut_probability(scores: CutScores) -> NDArray[np.float64]:
    """How likely each drawing begins a new shot, 0..1: a logistic model of seven features.

    Fitted by benchmarks/fit_cuts.py; docs/accuracy.md says on which films, and how it does on others.
    """
    return 1.0 / (1.0 + np.exp(-(CUT_BIAS + scores.features() @ np.asarray(CUT_WEIGHTS))))


def find_cuts(scores: CutScores, num_frames: int, config: ShotsConfig) -> list[int]:
    """First frames of new shots; where two would make a shot shorter than `min_frames`, the likelier one."""
    probability = np.where(scores.comes_back, 0.0, cut_probability(scores))
    chosen: list[int] = []
    for index in sorted(np.flatnonzero(probability >= config.cut), key=lambda index: -probability[index]):
        first = int(scores.frame[index])
        is_apart = all(abs(first - other) >= config.min_frames for other in (0, num_frames, *chosen))
        if is_apart:
            chosen.append(first)
    return sorted(chosen)


def divide(num_frames: int, cuts: list[int], graduals: list[Gradual], trim: int) -> list[Shot]:
    """Shots between cuts and transitions; a transition takes its own frames and `trim` more on each side."""
    taken = np.zeros(num_frames, bool)
    opened = {0: "start", **dict.fromkeys(cuts, "cut")}
    for gradual in graduals:
        first, last = max(0, gradual.start - trim), min(num_frames, gradual.end + 1 + trim)
        taken[first:last] = True
        opened[last] = gradual.kind.value
    starts = sorted({frame for frame in opened if frame < num_frames and not taken[frame]})
    shots: list[Shot] = []
    for start, following in zip(starts, [*starts[1:], num_frames], strict=True):
        stop = np.flatnonzero(taken[start:following])
        end = start + int(stop[0]) if len(stop) else following
        shots.append(Shot(len(shots), start, end, opened[start]))
    return shots


def _over_pairs(lagged: NDArray[np.float64], count: int, window: int, reduce: np.ufunc, start: float) -> NDArray[np.float64]:
    """[count]: `reduce` over all pairs of one of `window` drawings before and one of `window` drawings from i on."""
    found = np.full(count, start)
    for before in range(1, window + 1):
        for after in range(window):
            at = np.arange(before, count - after)
            found[at] = reduce(found[at], lagged[before + after][at + after])
    return found


def _comes_back(lagged: NDArray[np.float64], across: NDArray[np.float64], frame: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[count]: True where a picture was only covered, by a wing for example, for at most COVER_FRAMES frames."""
    least, count = across.copy(), len(across)
    for far in range(WINDOW, min(COVER_FRAMES, count - 1)):
        later, earlier = np.arange(1, count - far), np.arange(far + 1, count)
        later = later[frame[later + far] - frame[later] <= COVER_FRAMES]
        earlier = earlier[frame[earlier - 1] - frame[earlier - 1 - far] <= COVER_FRAMES]
        least[later] = np.minimum(least[later], lagged[far + 1][later + far])          # i - 1 against i + far
        least[earlier] = np.minimum(least[earlier], lagged[far + 1][earlier])          # i - 1 - far against i
    return least < COVERED * across


def _lagged_differences(thumbs: Thumbs, max_lag: int) -> NDArray[np.float64]:
    """[max_lag + 1, n]: mean difference of drawing i to drawing i - lag, in grey levels; 0 before the film."""
    count = len(thumbs.luma)
    lagged = np.zeros((max_lag + 1, count))
    for plane, weight in ((thumbs.luma, 1.0), (thumbs.u, 0.5), (thumbs.v, 0.5)):
        flat = plane.reshape(count, -1).astype(np.int16)
        for lag in range(1, min(max_lag, count - 1) + 1):
            lagged[lag, lag:] += weight * np.abs(flat[lag:] - flat[:-lag]).mean(axis=1)
    return lagged


def _lagged_common(thumbs: Thumbs, max_lag: int) -> NDArray[np.float64]:
    """[max_lag + 1, n]: share of the picture that drawing i and drawing i - lag have in common."""
    flat = thumbs.luma.reshape(len(thumbs.luma), -1).astype(np.int16)
    lagged = np.zeros((max_lag + 1, len(flat)))
    for lag in range(1, min(max_lag, len(flat) - 1) + 1):
        lagged[lag, lag:] = (np.abs(flat[lag:] - flat[:-lag]) <= SAME_GREY).mean(axis=1)
    return lagged


def _lagged_layouts(thumbs: Thumbs, max_lag: int) -> NDArray[np.float64]:
    """[max_lag + 1, n]: correlation of the layouts of drawing i and drawing i - lag; -1 before the film."""
    count = len(thumbs.luma)
    high = thumbs.luma.astype(np.float32)
    for picture in high:
        picture -= cv2.blur(picture, (7, 7))
    flat = high.reshape(count, -1)
    power = (flat * flat).sum(axis=1) + flat.shape[1]
    lagged = np.full((max_lag + 1, count), -1.0)
    for lag in range(1, min(max_lag, count - 1) + 1):
        lagged[lag, lag:] = (flat[lag:] * flat[:-lag]).sum(axis=1) / np.sqrt(power[lag:] * power[:-lag])
    return lagged
