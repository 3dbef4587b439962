"""Temporal warping error, and how much moves at all: without the second, the first praises a slide show.

Warping error: Lai et al. 2018 (arXiv 1808.00449), with Ruder et al.'s (arXiv 1604.08610) test of occlusion. Lai et al. take the
flow of the unprocessed video; an in-betweener may move otherwise than the truth and still be right, so flow is estimated on the
generated clip itself, and the truth's own error is reported beside it. The default estimator is OpenCV's DIS, which needs no
weights, the other one RAFT (Lai et al.: FlowNet 2), so values compare among themselves and not with the paper's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.metrics.metric import NO_WEIGHTS, Definition, Direction, Frames, PerClipMetric, Score
from training.metrics.pixels import luma_u8

# A pair is held when no block of 8 x 8 pixels changes by more than 3 levels on average: a mean over the picture would miss a
# blink, and a decoder never repeats a drawing to the bit. Chosen here, not fitted to a decoder.
HELD_BLOCK_PX = 8
HELD_LEVEL = 3 / 255

Flow = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Warp:
    """What one pair of frames gives."""

    warped: Tensor          # [3, h, w], the second frame seen from the first
    occluded: Tensor        # bool [h, w]
    error: float


class Motion(PerClipMetric):
    """Warping error, held frames and length of motion; `flow` and its name default to DIS, `weights` are the estimator's."""

    def __init__(self, *, frames: Frames = Frames.ALL, flow: Flow | None = None, flow_name: str = "dis_medium",
                 weights: str = NO_WEIGHTS) -> None:
        super().__init__(frames=frames, weights=weights)
        self._flow = dis_flow if flow is None else flow
        self.definitions = (
            Definition("warping_error", Direction.LOWER, 0, 1, f"warping_error_own_flow_{flow_name}",
                       "flicker and boiling; 0 for a clip that stands still, so read it beside the next two and the truth's"),
            Definition("held_ratio", Direction.NEITHER, 0, 1, "held_ratio_block8_level3",
                       "share of frames that repeat the one before; should equal the truth's"),
            Definition("motion", Direction.NEITHER, 0, math.inf, f"motion_px_{flow_name}",
                       "mean length of the flow from frame to frame in pixels; should equal the truth's"),
        )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        scores = zip(self._of_video(generated), self._of_video(truth), strict=True)
        return tuple(Score(made, drawn) for made, drawn in scores)

    def _of_video(self, video: Tensor) -> tuple[float, float, float]:
        video = video.cpu()
        if len(video) < 2:
            return 0.0, 0.0, 0.0
        errors, lengths = [], []
        for first, second in pairwise(video):
            forward, backward = self._flow(first, second), self._flow(second, first)
            errors.append(warp_back(first, second, forward, backward).error)
            lengths.append(torch.linalg.vector_norm(forward, dim=0).mean().item())
        held = held_pairs(video)
        return float(np.mean(errors)), held.double().mean().item(), float(np.mean(lengths))


def warp_back(first: Tensor, second: Tensor, forward: Tensor, backward: Tensor) -> Warp:
    """Brings the second frame back to the first and compares where nothing was uncovered.

    Shapes: frames [3, h, w] in [0, 1]; flows [2, h, w] as (x, y) in pixels. The error is the mean squared difference over visible
    pixels and channels; where everything is occluded, the sum over none is divided by all, so it is 0.
    """
    warped = sample_at(second, forward)
    occluded = find_occlusion(forward, backward)
    visible = (~occluded).double()
    squared = visible * (warped - first.double()).square()
    divisor = visible.sum() * len(first) if visible.any() else squared.numel()
    return Warp(warped, occluded, (squared.sum() / divisor).item())


def find_occlusion(forward: Tensor, backward: Tensor) -> Tensor:
    """Returns where the flow [2, h, w] cannot be trusted, bool [h, w]: it does not come back, or it has a boundary there."""
    forward, returned = forward.double(), sample_at(backward, forward)
    length, returned_length = forward.square().sum(0), returned.square().sum(0)
    astray = (returned + forward).square().sum(0) > 0.01 * (length + returned_length) + 0.5
    right = F.pad(forward[:, :, 1:] - forward[:, :, :-1], (0, 1))
    down = F.pad(forward[:, 1:] - forward[:, :-1], (0, 0, 0, 1))
    boundary = (right.square() + down.square()).sum(0) > 0.01 * length + 0.002
    return astray | boundary


def sample_at(picture: Tensor, flow: Tensor) -> Tensor:
    """Returns picture [c, h, w] read at each pixel plus flow [2, h, w], float64; bilinear, the border reaches outward."""
    height, width = picture.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height, device=flow.device, dtype=torch.float64),
                                   torch.arange(width, device=flow.device, dtype=torch.float64), indexing="ij")
    x, y = columns + flow[0], rows + flow[1]
    # A picture of one row or column has only one place to read from.
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(picture.double()[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)[0]


def held_pairs(video: Tensor) -> Tensor:
    """Returns for each frame but the first of [t, 3, h, w] in [0, 1] whether it repeats the one before, bool [t - 1]."""
    change = (video[1:] - video[:-1]).abs().mean(1, keepdim=True)
    blocks = F.avg_pool2d(change, HELD_BLOCK_PX, ceil_mode=True, count_include_pad=False)
    return blocks.amax(dim=(1, 2, 3)) <= HELD_LEVEL


def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """Returns OpenCV's dense inverse search flow [2, h, w] between frames [3, h, w] in [0, 1], on 8-bit luma."""
    import cv2

    greys = luma_u8(torch.stack([first, second])).numpy()
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = np.zeros((*greys.shape[1:], 2), dtype=np.float32)
    return torch.from_numpy(estimator.calc(greys[0], greys[1], flow)).permute(2, 0, 1)
