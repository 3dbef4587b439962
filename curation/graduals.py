"""Gradual transitions: fades, dissolves and wipes, found as what they are and not as slow cuts.

Between frames A and B of a blend every picture is (1 - a) A + a B with a rising from 0 to 1: the share a and what it leaves
unexplained are measured for every start and several lengths. One end without a picture makes it a fade; two different
pictures make it a dissolve, and halfway through it the fine drawing of both is paler than in either. In a wipe every pixel
is A or B, and the share of B rises. Camera and drawn motion do neither: they go on before and after as they do within.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import GradualsConfig
from curation.signals import Thumbs

LENGTHS = (10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 58)     # frames from A to B
FRACTIONS = np.arange(1, 8) / 8                                  # of the way at which pictures are compared
REACH = 12                       # frames before and after a transition over which the film is calmer
RETURN_FRAMES = 40               # in which a picture that comes back was not left
SAME_SHARE = 0.4                 # of the change, under which it is the same picture
CHUNK = 2048                     # starts measured at a time: bounds memory for long films
GRID = (16, 9)                   # cells of luma that are compared
BIG_GREY = 14.0                  # a cell tells A from B when it differs so much
LIKE_SHARE = 0.3                 # of that difference within which a cell counts as A or as B
FLAT_STD, BLACK_MEAN = 9.0, 30.0

Floats = NDArray[np.float32]


class GradualKind(StrEnum):
    FADE_IN = "fade_in"
    FADE_OUT = "fade_out"
    DISSOLVE = "dissolve"
    WIPE = "wipe"


@dataclass(frozen=True, slots=True)
class Gradual:
    """A transition over the frames start..end, both inclusive, that are neither all A nor all B."""

    kind: GradualKind
    start: int
    end: int
    score: float                 # 0..1: how well the model fits


def find_graduals(thumbs: Thumbs, config: GradualsConfig) -> list[Gradual]:
    """All transitions of a film in order, none overlapping; thumbs [n], every frame. A cut is no ramp and none of them."""
    pictures, detail = _reduced(thumbs), _detail(thumbs)
    found: list[tuple[float, Gradual]] = []
    for length in LENGTHS:
        for first in range(0, len(pictures) - length, CHUNK):
            found += _fitting(pictures[first : first + CHUNK + length], first, length, config)
    taken = np.zeros(len(pictures) + 1, bool)
    chosen: list[Gradual] = []
    for _, gradual in sorted(found, key=lambda item: (-item[0], item[1].start)):
        if gradual.score < config.min_score:
            continue
        if taken[gradual.start : gradual.end + 1].any():
            continue
        if _is_real(gradual, pictures, detail, config):
            taken[gradual.start : gradual.end + 1] = True
            chosen.append(gradual)
    return sorted(chosen, key=lambda gradual: gradual.start)


def _is_real(gradual: Gradual, pictures: Floats, detail: Floats, config: GradualsConfig) -> bool:
    """Whether a transition shows what only a transition of its kind shows."""
    before, after = gradual.start - 1, gradual.end + 1
    change = float(np.abs(pictures[after] - pictures[before]).mean())
    comes_back = _comes_back(pictures, before, slice(after, after + RETURN_FRAMES), change)
    was_there = _comes_back(pictures, after, slice(max(0, before - RETURN_FRAMES), before + 1), change)
    if gradual.kind is GradualKind.FADE_OUT:
        return not comes_back
    if gradual.kind is GradualKind.FADE_IN:
        return not was_there
    if gradual.kind is GradualKind.DISSOLVE and (
            detail[(before + after) // 2] > config.max_dip * (detail[before] + detail[after]) / 2):
        return False
    stands_out = change > config.min_stand_out * (_change_beside(pictures, before, after) + 2.0)
    return stands_out and not comes_back and not was_there


def _comes_back(pictures: Floats, picture: int, span: slice, change: float) -> bool:
    """Whether a span of frames shows the picture again: then it was only covered, by a wing for example."""
    return bool(np.abs(pictures[span] - pictures[picture]).mean(axis=1).min() < SAME_SHARE * change)


def _change_beside(pictures: Floats, before: int, after: int) -> float:
    """Mean change over as many frames before `before` and after `after` as lie between them; the calmer side counts."""
    reach = min(after - before, REACH)
    spans = ((before - reach, before), (after, after + reach))
    beside = [float(np.abs(pictures[end] - pictures[start]).mean()) for start, end in spans
              if start >= 0 and end < len(pictures)]
    return min(beside, default=0.0)


def _fitting(pictures: Floats, first: int, length: int, config: GradualsConfig) -> list[tuple[float, Gradual]]:
    """Transitions of one length in a stretch of film, each with its weight; `first` is the stretch's first frame."""
    before, after = pictures[:-length], pictures[length:]
    way = after - before
    power = np.einsum("nc,nc->n", way, way)
    candidates = np.flatnonzero(power > config.min_change**2 * way.shape[1])
    middle = pictures[candidates + length // 2] - before[candidates]
    share = np.einsum("nc,nc->n", middle, way[candidates]) / power[candidates]
    candidates = candidates[(share > 0.15) & (share < 0.85)]
    if not len(candidates):
        return []
    before, after, way, power = before[candidates], after[candidates], way[candidates], power[candidates]
    big = np.abs(way) > BIG_GREY
    num_big = np.maximum(big.sum(axis=1), 1)
    blend, rest, pure, turned = (np.zeros((len(FRACTIONS), len(candidates))) for _ in range(4))
    for index, fraction in enumerate(FRACTIONS):
        seen = pictures[candidates + round(fraction * length)] - before
        blend[index] = np.einsum("nc,nc->n", seen, way) / power
        left = seen - blend[index][:, None].astype(np.float32) * way
        rest[index] = np.sqrt(np.einsum("nc,nc->n", left, left) / power)
        is_b = np.abs(seen - way) < np.abs(seen)
        near = np.minimum(np.abs(seen - way), np.abs(seen)) < LIKE_SHARE * np.abs(way)
        pure[index] = (near & big).sum(axis=1) / num_big
        turned[index] = (is_b & big).sum(axis=1) / num_big
    alike = _layout_likeness(before, after)
    flat_a, flat_b = _is_flat(before), _is_flat(after)
    results: list[tuple[float, Gradual]] = []
    blends = _quality(blend, rest.mean(axis=0), config.max_rest, config.max_bend)
    wipes = _quality(turned, 1.0 - pure.mean(axis=0), 1.0 - config.min_pure, config.max_bend)
    wipes[(big.mean(axis=1) < config.min_wipe_area) | flat_a | flat_b] = 0.0
    different = alike < config.max_layout
    for row in np.flatnonzero((blends > 0) | (wipes > 0)):
        if flat_a[row] != flat_b[row] and blends[row] > 0:
            kind = GradualKind.FADE_IN if flat_a[row] else GradualKind.FADE_OUT
        elif different[row] and not flat_a[row]:
            kind = GradualKind.DISSOLVE if blends[row] >= wipes[row] else GradualKind.WIPE
        else:
            continue
        quality = float(max(blends[row], wipes[row]))
        start = first + int(candidates[row]) + 1
        results.append((quality * float(np.sqrt(power[row])), Gradual(kind, start, start + length - 2, quality)))
    return results


def _quality(ramp: NDArray[np.float64], rest: NDArray[np.float64], max_rest: float, max_bend: float) -> NDArray[np.float64]:
    """0..1 per candidate: how straight the ramp [fractions, n] rises and how little is left over; 0 beyond a limit."""
    bend = np.abs(ramp - FRACTIONS[:, None]).max(axis=0)
    rises = (np.diff(ramp, axis=0) > -0.05).all(axis=0)
    quality = 1.0 - 0.5 * rest / max_rest - 0.5 * bend / max_bend
    quality[~rises | (rest > max_rest) | (bend > max_bend)] = 0.0
    return np.maximum(quality, 0.0)


def _reduced(thumbs: Thumbs) -> Floats:
    """[n, cells]: luma on GRID, u and v on half of it."""
    half = (GRID[0] // 2, GRID[1] // 2)
    rows = [np.concatenate([cv2.resize(luma, GRID, interpolation=cv2.INTER_AREA).ravel(),
                            cv2.resize(u, half, interpolation=cv2.INTER_AREA).ravel(),
                            cv2.resize(v, half, interpolation=cv2.INTER_AREA).ravel()])
            for luma, u, v in zip(thumbs.luma, thumbs.u, thumbs.v, strict=True)]
    return np.asarray(rows, np.float32)


def _detail(thumbs: Thumbs) -> Floats:
    """[n]: power of the fine drawing of every picture."""
    return np.asarray([np.mean((luma - cv2.blur(luma, (7, 7))) ** 2) for luma in thumbs.luma.astype(np.float32)])


def _luma(pictures: Floats) -> Floats:
    return pictures[:, : GRID[0] * GRID[1]]


def _is_flat(pictures: Floats) -> NDArray[np.bool_]:
    """No picture: one grey all over, or nearly black."""
    luma = _luma(pictures)
    return (luma.std(axis=1) < FLAT_STD) & ((luma.mean(axis=1) < BLACK_MEAN) | (luma.std(axis=1) < FLAT_STD / 3))


def _layout_likeness(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Correlation of the luma layouts of A and B."""
    a, b = _luma(before), _luma(after)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.einsum("nc,nc->n", a, b) / np.sqrt(np.einsum("nc,nc->n", a, a) * np.einsum("nc,nc->n", b, b) + a.shape[1])
