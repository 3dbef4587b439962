"""Line art of a drawn frame with OpenCV alone: a soft-thresholded difference of Gaussians.

Extended difference of Gaussians (Winnemoeller et al. 2012, "XDoG"): the picture blurred a little minus the picture
blurred more; dark lines and the darker side of edges go under the threshold. Written for cel animation: noise of
flat areas is smoothed without touching edges first, lines are measured against the local contrast, and specks too small
to be drawn are removed. Constants chosen here on hand-drawn, flat and rendered cartoons.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_REFERENCE_PX = 320      # shorter side for which the radii are meant; larger pictures get wider lines
_SIGMA_PX = 0.8          # of the finer blur
_RATIO = 1.6             # of the two blurs; 1.6 approximates the Laplacian of a Gaussian
_GAIN = 18.0             # steepness of the soft threshold
_LEVEL = 0.010           # response, share of full scale, at which a pixel is half line
_INK = 128               # darker than this counts as line when specks are looked for
_PAPER = 250             # lighter than this is paper
_MIN_SPECK_PX = 12       # at the reference size


def line_art(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Line drawing [h, w] uint8 of a luma picture [h, w] uint8: 255 paper, 0 line, grey at the rims of lines."""
    scale = max(1.0, min(gray.shape) / _REFERENCE_PX)
    smooth = np.asarray(cv2.bilateralFilter(gray, d=5, sigmaColor=20.0, sigmaSpace=2.0), np.float32) / 255.0
    sigma = _SIGMA_PX * scale
    fine = np.asarray(cv2.GaussianBlur(smooth, (0, 0), sigma))
    wide = np.asarray(cv2.GaussianBlur(smooth, (0, 0), sigma * _RATIO))
    darker = np.maximum(wide - fine, 0.0)
    ink = 0.5 + 0.5 * np.tanh(_GAIN / _LEVEL * (darker - _LEVEL) / 4.0)
    paper = np.round(255.0 * (1.0 - ink)).astype(np.uint8)
    return _without_specks(paper, min_px=round(_MIN_SPECK_PX * scale * scale))


def _without_specks(paper: NDArray[np.uint8], *, min_px: int) -> NDArray[np.uint8]:
    """Turns connected dark areas of fewer than `min_px` pixels into paper, with their grey rims."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((paper < _PAPER).astype(np.uint8), connectivity=8)
    ink = np.bincount(labels.ravel(), weights=(paper < _INK).ravel(), minlength=len(stats))
    small = ink < min_px
    small[0] = False
    cleaned = paper.copy()
    cleaned[small[labels] | (paper >= _PAPER)] = 255
    return cleaned
