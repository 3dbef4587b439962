"""Picture gate: drops clips that are too small, too long and narrow, blocky from compression or blurred.

Measured on the full-resolution luma of the survey's looks (about one a second), on every few rows and columns only, so
that a look costs about a millisecond. The measures compare neighbouring pixels with each other and not with an
absolute amount of detail: flat-coloured drawings have little detail and are still sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import QualityLimits
from curation.ledger import Verdict

GATE = "quality"

BLOCK_PX = 8              # side of the transform block of MPEG-1/2/4, DVD and JPEG
PERIODS_PX = (8, 16, 32)  # also the sides of larger coding blocks, whose borders lie on those of the small ones
MAX_BLOCK_STEP = 20       # larger steps are drawn lines, not coding
STEP_FLOOR = 0.12         # mean step, in levels, below which a picture is flat and the ratio means nothing
REFERENCE_LINES = 480     # an edge is measured across 1/480 of the shorter side, at least a pixel
EDGE_WINDOW = 8           # local contrast is taken this many such steps to each side
MIN_EDGE_CONTRAST = 32    # levels
SHARP_QUANTILE = 0.75     # of the edges: the picture's subject, not its out-of-focus parts
MIN_EDGES = 40            # fewer edges say nothing about sharpness
COMB_STEP = 12            # levels between fields that make a comb tooth
MIN_STEPS = 200           # vertical steps; fewer say nothing about combing
FLAT_STD = 6.0            # levels; flatter looks (black, white) are left out of a clip's medians


@dataclass(frozen=True, slots=True)
class LookQuality:
    """Numbers of one picture at full resolution."""

    blocking: float       # mean step across the borders of 8-, 16- or 32-pixel blocks over mean step inside; 1 = none
    sharpness: float      # [0, 1]: steepest step of an edge over its contrast; 1 also where there is no edge to judge
    comb: float           # [0, 1]: share of the vertical steps that alternate from row to row; progressive is near 0
    luma_mean: float      # levels, 0..255
    luma_std: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Numbers of one clip: its geometry, and medians over its looks."""

    side_px: int          # shorter side of the upright picture in square pixels, black bars removed
    aspect: float         # longer side over shorter side
    blocking: float
    sharpness: float


def measure_look(luma: NDArray[np.uint8]) -> LookQuality:
    """Measures one picture: luma [h, w] uint8 at full coded resolution."""
    height, width = luma.shape
    sample = luma[::4, ::4]
    mean, std = cv2.meanStdDev(np.ascontiguousarray(sample))
    rows = np.ascontiguousarray(luma[_spread(height, 120)])
    columns = np.ascontiguousarray(luma[:, _spread(width, 120)].T)
    step_px = max(1, round(min(height, width) / REFERENCE_LINES))
    ratios = np.concatenate([_edge_ratios(rows, step_px), _edge_ratios(columns, step_px)])
    return LookQuality(
        blocking=max(_block_ratio(rows), _block_ratio(columns)),
        sharpness=float(np.quantile(ratios, SHARP_QUANTILE)) if ratios.size >= MIN_EDGES else 1.0,
        comb=_comb_share(columns),
        luma_mean=float(mean[0, 0]),
        luma_std=float(std[0, 0]),
    )


def summarise(looks: Sequence[LookQuality], crop_w: int, crop_h: int, sample_aspect: Fraction) -> Quality:
    """Quality of a clip: medians over its looks, black and white ones aside; geometry in square pixels.

    crop_w, crop_h: coded pixels without black bars. A clip without looks cannot be called blocky or blurred.
    """
    seen = [look for look in looks if look.luma_std >= FLAT_STD] or list(looks)
    upright_w = crop_w * float(sample_aspect)
    return Quality(
        side_px=round(min(upright_w, crop_h)),
        aspect=max(upright_w, crop_h) / max(min(upright_w, crop_h), 1.0),
        blocking=median(look.blocking for look in seen) if seen else 1.0,
        sharpness=median(look.sharpness for look in seen) if seen else 1.0,
    )


def decide(score: Quality, limits: QualityLimits) -> Verdict:
    """Keeps pictures that are large enough, not extremely long and narrow, not blocky and not blurred."""
    if score.side_px < limits.min_side_px:
        return Verdict.drop(GATE, f"the shorter side is {score.side_px} px < {limits.min_side_px} px")
    if score.aspect > limits.max_aspect:
        return Verdict.drop(GATE, f"the picture is {score.aspect:.2f} times as long as narrow > {limits.max_aspect:g}")
    if score.blocking > limits.max_blocking:
        return Verdict.drop(GATE, f"compression blocks stand out {score.blocking:.2f} times > {limits.max_blocking:g}")
    if score.sharpness < limits.min_sharpness:
        return Verdict.drop(GATE, f"edges are blurred, sharpness {score.sharpness:.3f} < {limits.min_sharpness:g}")
    return Verdict.kept(GATE)


def _spread(length: int, count: int) -> slice:
    """About `count` positions in [0, length); the stride is odd, so that no block row is met twice as often."""
    stride = max(1, length // count) | 1
    return slice(stride // 2, None, stride)


def _block_ratio(lines: NDArray[np.uint8]) -> float:
    """Largest over PERIODS_PX: mean step onto a pixel 0 of a block over the mean step inside; lines [n, length].

    Inside means away from every 8-pixel border. Deblocking filters wash out the small borders and leave the large.
    """
    if lines.shape[1] < 4 * PERIODS_PX[-1]:
        return 1.0
    steps = np.minimum(cv2.absdiff(lines[:, 1:], lines[:, :-1]), MAX_BLOCK_STEP)
    means = cv2.reduce(steps, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0].astype(np.float64) / len(lines)
    places = np.arange(1, lines.shape[1])
    inside = float(means[places % BLOCK_PX != 0].mean())
    border = max(float(means[places % period == 0].mean()) for period in PERIODS_PX)
    return (border + STEP_FLOOR) / (inside + STEP_FLOOR)


def _edge_ratios(lines: NDArray[np.uint8], step_px: int) -> NDArray[np.float32]:
    """Steepest step over local contrast of every edge along the lines [n, length]; an ideal edge gives 1."""
    reach = EDGE_WINDOW * step_px
    if lines.shape[1] <= 2 * reach + step_px:
        return np.zeros(0, np.float32)
    window = np.ones((1, 2 * reach + 1), np.uint8)
    contrast = cv2.subtract(cv2.dilate(lines, window), cv2.erode(lines, window))[:, step_px // 2:]
    steps = cv2.absdiff(lines[:, step_px:], lines[:, :-step_px])
    contrast = contrast[:, :steps.shape[1]]
    edges = (steps == cv2.dilate(steps, window)) & (contrast >= MIN_EDGE_CONTRAST)
    ratios: NDArray[np.float32] = steps[edges].astype(np.float32) / contrast[edges].astype(np.float32)
    return ratios


def _comb_share(columns: NDArray[np.uint8]) -> float:
    """Share of the vertical steps that go up and down again over three rows; columns [n, height] uint8.

    A drawn line one row high alternates once (up, down); only fields of two moments go on alternating.
    """
    steps = np.diff(columns.astype(np.int16), axis=1)
    up, down = steps >= COMB_STEP, steps <= -COMB_STEP
    num_steps = int(np.count_nonzero(up)) + int(np.count_nonzero(down))
    if num_steps < MIN_STEPS:
        return 0.0
    teeth = (up[:, :-3] & down[:, 1:-2] & up[:, 2:-1] & down[:, 3:]) | (
        down[:, :-3] & up[:, 1:-2] & down[:, 2:-1] & up[:, 3:])
    return min(1.0, float(np.count_nonzero(teeth)) / num_steps)
