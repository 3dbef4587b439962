"""Forward splatting in plain torch: every pixel is laid where its flow points, bilinearly over four neighbours.

Softmax splatting (arXiv 2003.05534) and its plainer relatives. Four scatter operations for all pixels and channels at once,
so that the same code serves the CPU and the GPU without a compiled extension; differentiable in values, flow and metric.
On a GPU the sums come from atomic additions: their last bits differ between runs.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

EPSILON = 1e-7


class Mode(StrEnum):
    """How much a pixel counts: 1 (SUM, AVERAGE), its metric (LINEAR), or e to the power of its metric (SOFTMAX)."""

    SUM = "sum"
    AVERAGE = "average"
    LINEAR = "linear"
    SOFTMAX = "softmax"


class Holes(StrEnum):
    """What keeps the quotient finite where nothing, or hardly anything, arrived."""

    ADD_EPSILON = "addeps"      # epsilon is added to every sum of weights
    ZERO_TO_ONE = "zeroeps"     # sums that are exactly 0 become 1; AnimeInterp's released average
    CLIP_EPSILON = "clipeps"    # sums are at least epsilon


def splat(values: Tensor, flow: Tensor, mode: Mode, metric: Tensor | None = None, *, holes: Holes = Holes.ADD_EPSILON) -> Tensor:
    """Returns values [n, c, h, w] moved along flow [n, 2, h, w] (x right, y down, in pixels): [n, c, h, w].

    out(y) = sum b w v / sum b w with b the bilinear share of a source pixel at y and w its weight; SUM does not divide.
    metric [n, 1, h, w] is wanted by LINEAR and SOFTMAX, and by no other mode. What falls outside or has no finite
    target is dropped; holes are 0. Source: SoftSplat eq. 4, with the released variants of the denominator.
    """
    assert (metric is not None) == (mode in (Mode.LINEAR, Mode.SOFTMAX)), f"{mode} and the metric do not fit"
    if mode is Mode.SUM:
        return sum_splat(values, flow)
    if mode is Mode.AVERAGE:
        weights = torch.ones_like(values[:, :1])
    else:
        assert metric is not None
        weights = metric.exp() if mode is Mode.SOFTMAX else metric
    # One pass carries numerator and denominator.
    moved = sum_splat(torch.cat([values * weights, weights], dim=1), flow)
    return moved[:, :-1] / _filled(moved[:, -1:], holes)


def sum_splat(values: Tensor, flow: Tensor) -> Tensor:
    """Returns the sums of bilinear shares [n, c, h, w]: what lands on a pixel is added up.

    Shapes: values [n, c, h, w], flow [n, 2, h, w]. Where a target is exactly on a pixel the gradient of the flow is that
    of the cell to its right and below.
    """
    batch, channels, height, width = values.shape
    x, y, is_inside = _targets(flow, height, width)
    left, top = x.floor(), y.floor()
    flat = values.flatten(2)
    moved = values.new_zeros(batch, channels, height * width)
    for across in (0, 1):
        for down in (0, 1):
            column, row = left + across, top + down
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            lands = is_inside & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            share = torch.where(lands, share, 0.0).to(values.dtype)
            place = torch.where(lands, row * width + column, 0.0).long()
            moved = moved.scatter_add(2, place.flatten(1)[:, None].expand(-1, channels, -1), flat * share.flatten(1)[:, None])
    return moved.view(batch, channels, height, width)


def _targets(flow: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x [n, h, w], y [n, h, w] and where both can lie inside. Others become 0: infinity times 0 would be NaN."""
    # Half precision cannot tell neighbouring pixels of a picture apart.
    flow = flow.float() if flow.dtype in (torch.float16, torch.bfloat16) else flow
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    is_inside = (x > -1) & (x < width) & (y > -1) & (y < height)      # False for NaN, too
    return torch.where(is_inside, x, 0.0), torch.where(is_inside, y, 0.0), is_inside


def _filled(weights: Tensor, holes: Holes) -> Tensor:
    if holes is Holes.ADD_EPSILON:
        return weights + EPSILON
    if holes is Holes.CLIP_EPSILON:
        return weights.clip(min=EPSILON)
    return torch.where(weights == 0, 1.0, weights)
