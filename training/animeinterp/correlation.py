"""All-pairs correlation of two feature maps, looked up around moving points. Source: RAFT (arXiv 2003.12039), section 3.2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Correlation:
    """Correlations of every position with every other one, and smaller copies averaged over the second position."""

    def __init__(self, features1: Tensor, features2: Tensor, *, num_levels: int, radius: int) -> None:
        """Takes features [n, c, h, w]; the last level needs two rows and columns: h and w at least 2^num_levels."""
        self.radius = radius
        batch, channels, height, width = features1.shape
        volume = torch.einsum("nci,ncj->nij", features1.flatten(2), features2.flatten(2)) / channels**0.5
        level = volume.reshape(batch * height * width, 1, height, width)
        self.levels = [level]
        for _ in range(num_levels - 1):
            level = F.avg_pool2d(level, 2)
            self.levels.append(level)

    def lookup(self, points: Tensor) -> Tensor:
        """Returns [n, num_levels * (2 radius + 1)^2, h, w] around points [n, 2, h, w] (x, y) of the second map.

        Within a level the slow index moves x and the fast one y: RAFT's order, on which published weights rely.
        """
        batch, _, height, width = points.shape
        reach = torch.arange(-self.radius, self.radius + 1, device=points.device, dtype=points.dtype)
        side = len(reach)
        offsets = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1)
        centres = points.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = [sample(level, centres / 2**index + offsets) for index, level in enumerate(self.levels)]
        return torch.cat([level.view(batch, height, width, side * side) for level in found], dim=-1).permute(0, 3, 1, 2)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Returns maps [n, c, h, w] at points [n, i, j, 2] (x, y in pixels), bilinear, zero outside: [n, c, i, j]."""
    height, width = maps.shape[-2:]
    extent = torch.tensor([width - 1, height - 1], device=points.device, dtype=points.dtype)
    return F.grid_sample(maps, (2 * points / extent - 1).to(maps.dtype), mode="bilinear", align_corners=True)


def pixel_grid(like: Tensor) -> Tensor:
    """Returns the own coordinates (x, y) of each pixel [n, 2, h, w] of a map [n, c, h, w]."""
    height, width = like.shape[-2:]
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y]).expand(like.shape[0], -1, -1, -1)
