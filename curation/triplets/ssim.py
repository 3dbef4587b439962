"""Structural similarity of grey pictures at a fixed working size.

Convention: Rec. 601 luma of RGB uint8, resized to the working size (area mean where that is smaller, bilinear where it is larger;
the aspect may change), Gaussian window 11x11 with sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, L = 255, mean over the
map without its 5-pixel rim (Wang et al. 2004). scikit-image computes the same with gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=255; here what belongs to one picture is computed once, since each is compared with
several others. ATD-12K names neither variant nor size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WINDOW_PX, SIGMA_PX = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
MIDDLE = 128.0               # subtracted before squaring, so that float32 is exact enough
CONVENTION = "grey, Gaussian 11x11 sigma 1.5, population covariance, L=255, rim of 5 pixels left out"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SsimPicture:
    """A picture with what SSIM needs of it alone; each [h, w] float32, grey levels less 128."""

    levels: Floats
    mean: Floats
    variance: Floats


def grey_at(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Luma uint8 [height, width] of RGB uint8 [h, w, 3] at `size` (width, height)."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    shrinks = size[0] <= grey.shape[1] and size[1] <= grey.shape[0]
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def prepare(grey: NDArray[np.uint8]) -> SsimPicture:
    """Of uint8 [h, w], both sides at least 11."""
    levels = grey.astype(np.float32) - np.float32(MIDDLE)
    mean = _blurred(levels)
    return SsimPicture(levels, mean, _blurred(levels * levels) - mean * mean)


def ssim(one: SsimPicture, two: SsimPicture) -> float:
    """Similarity in [-1, 1] of two pictures of one size; 1 only for equal ones."""
    covariance = _blurred(one.levels * two.levels) - one.mean * two.mean
    mean_one, mean_two = one.mean + np.float32(MIDDLE), two.mean + np.float32(MIDDLE)
    luminance = (2 * mean_one * mean_two + C1) / (mean_one * mean_one + mean_two * mean_two + C1)
    structure = (2 * covariance + C2) / (one.variance + two.variance + C2)
    rim = WINDOW_PX // 2
    return float((luminance * structure)[rim:-rim, rim:-rim].mean(dtype=np.float64))


def _blurred(levels: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(levels, (WINDOW_PX, WINDOW_PX), SIGMA_PX), np.float32)
