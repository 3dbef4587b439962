"""Distance between line drawings: chamfer and Hausdorff distance of the outlines of two pictures.

Source: Chen and Zwicker, "Improving the Perceptual Quality of 2D Animation Interpolation" (EISAI, arXiv 2111.12792): lines are
where the difference of two Gaussians darkens, distances are in units of the picture's diagonal.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from training.metrics.metric import Definition, Direction, PerClipMetric, Score

NARROW_SIGMA, NARROW_TAPS = 1.0, 9
WIDE_SIGMA, WIDE_TAPS = 1.6, 13
GAIN, OFFSET = 2.0, 0.01
LUMA = (0.299, 0.587, 0.114)

Mask = npt.NDArray[np.bool_]


class LineDistance(PerClipMetric):
    definitions: tuple[Definition, ...] = (
        Definition("line_chamfer", Direction.LOWER, 0, 1, "line_chamfer_dog1.6",
                   "place of the outlines; blind to colour; a little blur goes unseen, lost and invented lines count most"),
        Definition("line_hausdorff", Direction.LOWER, 0, 1, "line_hausdorff_dog1.6",
                   "the worst outline pixel of a frame: one speck decides"),
        Definition("line_ratio", Direction.NEITHER, 0, math.inf, "line_ratio_dog1.6",
                   "outline pixels of the generated frame per outline pixel of the truth: 1 is right, both sides are wrong; "
                   "frames whose truth has no lines count as 1 if none were added, else as the number added"),
    )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        maps = zip(line_map(truth), line_map(generated), strict=True)
        found = np.array([line_distances(drawn.cpu().numpy(), made.cpu().numpy()) for drawn, made in maps])
        return tuple(Score(float(value)) for value in found.mean(0))


def line_map(video: Tensor) -> Tensor:
    """Returns where lines are, bool [n, h, w], of RGB pictures [n, 3, h, w] in [0, 1]."""
    weights = torch.tensor(LUMA, dtype=video.dtype, device=video.device).view(1, 3, 1, 1)
    luma = (video * weights).sum(1, keepdim=True)
    difference = _blurred(luma, WIDE_SIGMA, WIDE_TAPS) - _blurred(luma, NARROW_SIGMA, NARROW_TAPS)
    # 0.5 on both sides of the published inequality cancels, but its rounding decides ties.
    return (0.5 + GAIN * difference - OFFSET > 0.5)[:, 0]


def line_distances(truth: Mask, generated: Mask) -> tuple[float, float, float]:
    """Returns chamfer, Hausdorff and ratio of two line maps [h, w]; distances in diagonals, [0, 1].

    Chamfer is the mean of both directions, each over all pixels of the picture, so it grows with the amount of line.
    """
    forth, back = directed_chamfer(truth, generated), directed_chamfer(generated, truth)
    worst = max((truth * line_distance(generated)).max(), (generated * line_distance(truth)).max())
    # Without lines in the truth the ratio has no value; this keeps it finite and still 1 for an exact copy.
    ratio = generated.sum() / truth.sum() if truth.any() else max(1, generated.sum())
    return (forth + back) / 2, float(worst) / _diagonal(truth), float(ratio)


def directed_chamfer(lines: Mask, others: Mask) -> float:
    """Returns the mean over the picture of every line pixel's distance to the nearest of the other lines, in diagonals."""
    return float((lines * line_distance(others)).mean()) / _diagonal(lines)


def line_distance(lines: Mask) -> npt.NDArray[np.float64]:
    """Returns each pixel's Euclidean distance to the nearest line in pixels; the diagonal everywhere if there is none."""
    from scipy.ndimage import distance_transform_edt

    if not lines.any():
        return np.full(lines.shape, _diagonal(lines))
    return distance_transform_edt(~lines)


def _diagonal(picture: Mask) -> float:
    return math.hypot(*picture.shape)


def _blurred(luma: Tensor, sigma: float, taps: int) -> Tensor:
    offsets = torch.arange(taps, dtype=luma.dtype, device=luma.device) - taps // 2
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    window = window / window.sum()
    padded = F.pad(luma, (taps // 2,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))
