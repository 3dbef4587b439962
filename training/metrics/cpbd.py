"""CPBD: the share of edges whose blur nobody would notice. A sharpness of single pictures, without a reference.

Source: Narvekar and Karam, IEEE TIP 20(9), 2011, with the details of PyPI's cpbd 1.0.7, whose author checked it against the
MATLAB release; that package no longer imports. Edge masks are scikit-image's Canny, as there. On drawings it mostly judges
outlines: clean two-pixel lines give 1, a blur of 0.7 pixels already 0.16, and ringing raises it; a jump with no pixel between is
no edge at all, so aliased drawings can score low. Blocks of 64 pixels make it depend on the size of the frame: measure at the
size that was generated.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from training.metrics.metric import Definition, Direction, PerClipMetric, Score
from training.metrics.pixels import luma_u8

BLOCK_PX = 64
EDGE_BLOCK_SHARE = 0.002        # of a block's pixels must be edges, or it does not count
BETA = 3.6
LOW_CONTRAST = 50               # grey levels; at or below it, wider edges go unnoticed
JUST_NOTICEABLE_PX = (5.0, 3.0)     # edge width at low and at high contrast
JUST_NOTICEABLE_PERCENT = 63        # 1 - exp(-1), the chance to notice an edge of just that width
MAX_STEPS = 100

Grey = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EdgeMaps:
    """Intermediate maps [h, w] of one picture."""

    canny: Mask             # says which blocks hold edges
    vertical: Mask          # the edges that may be measured
    width_px: Grey          # 0 where no edge is measured


class Cpbd(PerClipMetric):
    definitions: tuple[Definition, ...] = (
        Definition("cpbd", Direction.HIGHER, 0, 1, "cpbd_1.0.7",
                   "sharpness of single frames, without looking at the truth; noise and ringing raise it; blind to motion"),
    )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        return (Score(_mean_over_frames(generated), _mean_over_frames(truth)),)


def cpbd(grey: npt.NDArray[np.uint8]) -> float:
    """Returns the cumulative probability of blur detection of a grey picture [h, w], in [0, 1]; 0 where it has no edges."""
    picture = grey.astype(np.float64)
    maps = edge_maps(picture)
    hidden = measured = 0
    for top in range(0, picture.shape[0] - BLOCK_PX + 1, BLOCK_PX):
        for left in range(0, picture.shape[1] - BLOCK_PX + 1, BLOCK_PX):
            block = np.s_[top:top + BLOCK_PX, left:left + BLOCK_PX]
            if maps.canny[block].sum() <= EDGE_BLOCK_SHARE * BLOCK_PX**2:
                continue
            contrast = int(picture[block].max() - picture[block].min())
            noticeable_px = JUST_NOTICEABLE_PX[0 if contrast <= LOW_CONTRAST else 1]
            widths = maps.width_px[block]
            widths = widths[widths > 0]
            percent = np.rint(100 * (1 - np.exp(-((widths / noticeable_px) ** BETA))))
            hidden += int((percent <= JUST_NOTICEABLE_PERCENT).sum())
            measured += len(widths)
    return hidden / measured if measured else 0.0


def edge_maps(picture: Grey) -> EdgeMaps:
    """Returns the maps of a grey picture [h, w] in 0..255."""
    from skimage.feature import canny

    # On floats these thresholds mean 0.1 and 0.2 of 255 levels, so nearly every maximum of the gradient passes, as published.
    mask = canny(picture, sigma=1.0, low_threshold=0.1, high_threshold=0.2)
    vertical = _vertical_edges(picture)
    return EdgeMaps(mask, vertical, _edge_widths(picture, vertical))


def _mean_over_frames(video: Tensor) -> float:
    return float(np.mean([cpbd(frame) for frame in luma_u8(video).cpu().numpy()]))


def _vertical_edges(picture: Grey) -> Mask:
    """Thinned Sobel edges: strong pixels above both neighbours in a row, or above both in a column."""
    # The edge pixel is repeated outside, which is what scipy calls "reflect" for a kernel of this size.
    padded = np.pad(picture, 1, mode="edge")
    smooth = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    strength = ((smooth[:, 2:] - smooth[:, :-2]) / 8) ** 2
    strength[strength <= 2 * np.sqrt(strength.mean())] = 0
    around = np.pad(strength, 1)
    in_row = (strength > around[1:-1, :-2]) & (strength > around[1:-1, 2:])
    in_column = (strength > around[:-2, 1:-1]) & (strength > around[2:, 1:-1])
    return in_row | in_column


def _edge_widths(picture: Grey, edges: Mask) -> Grey:
    """Marziliano's width: the pixels to the local minimum and maximum along the row, for edges that a row crosses squarely."""
    down, across = np.gradient(picture)
    # A gradient straight down has angle 0 here too, as in the reference.
    angle = np.where(across != 0, np.degrees(np.arctan2(down, across)), 0.0)
    octant = np.rint(angle / 45)
    inside = np.zeros_like(edges)
    inside[1:-1, 1:-1] = edges[1:-1, 1:-1]
    widths = np.zeros_like(picture)
    for sign, chosen in ((1, octant == 0), (-1, np.abs(octant) == 4)):
        rows, columns = np.nonzero(inside & chosen)
        before, after = _runs(sign * picture)
        widths[rows, columns] = 2 + before[rows, columns - 1] + after[rows, columns + 1]
    return widths


def _runs(picture: Grey) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many strictly rising steps end at each pixel, and how many begin there, along the row; at most 100.

    100 rather than 101: the reference stops counting at its hundredth step whether or not the slope goes on.
    """
    rising = np.diff(picture, axis=1) > 0
    before = np.zeros(picture.shape, dtype=np.int64)
    after = np.zeros(picture.shape, dtype=np.int64)
    for column in range(rising.shape[1]):
        before[:, column + 1] = np.where(rising[:, column], before[:, column] + 1, 0)
        mirrored = rising.shape[1] - 1 - column
        after[:, mirrored] = np.where(rising[:, mirrored], after[:, mirrored + 1] + 1, 0)
    return np.minimum(before, MAX_STEPS), np.minimum(after, MAX_STEPS)
