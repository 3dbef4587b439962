"""One step of recurrent refinement: motion features, separable ConvGRU, flow and mask heads.

RAFT's basic update block (arXiv 2003.12039, section 3.3) as AnimeInterp uses it; names are those of published weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UPSAMPLING = 8                  # the flow lives on an eighth of the picture
NEIGHBOURS = 9


class MotionEncoder(nn.Module):
    """Features of correlation and flow; the flow itself makes the last two channels."""

    def __init__(self, correlation_channels: int, *, width: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(correlation_channels, 2 * width, 1)
        self.convc2 = nn.Conv2d(2 * width, 3 * width // 2, 3, padding=1)
        self.convf1 = nn.Conv2d(2, width, 7, padding=3)
        self.convf2 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv = nn.Conv2d(2 * width, width - 2, 3, padding=1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        """Returns [n, width, h, w] of flow [n, 2, h, w] and looked-up correlation [n, c, h, w]."""
        found = F.relu(self.convc2(F.relu(self.convc1(correlation))))
        moved = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([found, moved], dim=1))), flow], dim=1)


class SeparableConvGRU(nn.Module):
    """A gated recurrent unit along rows (names ending in 1), then one along columns (2)."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        across, down = ((1, 5), (0, 2)), ((5, 1), (2, 0))
        (self.convz1, self.convr1, self.convq1), (self.convz2, self.convr2, self.convq2) = (
            [nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding) for _ in range(3)] for kernel, padding in (across, down))

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        hidden = _gated(hidden, inputs, self.convz1, self.convr1, self.convq1)
        return _gated(hidden, inputs, self.convz2, self.convr2, self.convq2)


class FlowHead(nn.Module):
    """From the hidden state to the change of the flow."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, 2 * hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * hidden, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.relu(self.conv1(hidden)))
        return change


class UpdateBlock(nn.Module):
    """One iteration; hidden state, context and motion features have `width` channels each."""

    def __init__(self, correlation_channels: int, *, width: int) -> None:
        super().__init__()
        self.encoder = MotionEncoder(correlation_channels, width=width)
        self.gru = SeparableConvGRU(width, 2 * width)
        self.flow_head = FlowHead(width)
        self.mask = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(2 * width, NEIGHBOURS * UPSAMPLING**2, 1))

    def forward(self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the new hidden state and the change of the flow [n, 2, h, w]."""
        hidden = self.gru(hidden, torch.cat([context, self.encoder(flow, correlation)], dim=1))
        return hidden, self.flow_head(hidden)

    def upsampling_mask(self, hidden: Tensor) -> Tensor:
        """Returns the mask [n, 576, h, w] for `upsample`; a quarter of it balances the gradients, as RAFT says."""
        mask: Tensor = 0.25 * self.mask(hidden)
        return mask


def upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """Returns the flow [n, 2, 8h, 8w] in large pixels: convex combinations of 3x3 small ones, zero beyond the border.

    Shapes: flow [n, 2, h, w], mask [n, 9 * 8 * 8, h, w], the neighbour being its slowest index.
    """
    batch, _, height, width = flow.shape
    weights = mask.view(batch, 1, NEIGHBOURS, UPSAMPLING, UPSAMPLING, height, width).softmax(dim=2)
    around = F.unfold(UPSAMPLING * flow, 3, padding=1).view(batch, 2, NEIGHBOURS, 1, 1, height, width)
    fine = (weights * around).sum(dim=2).permute(0, 1, 4, 2, 5, 3)
    return fine.reshape(batch, 2, UPSAMPLING * height, UPSAMPLING * width)


def _gated(hidden: Tensor, inputs: Tensor, update: nn.Conv2d, reset: nn.Conv2d, candidate: nn.Conv2d) -> Tensor:
    both = torch.cat([hidden, inputs], dim=1)
    z, r = torch.sigmoid(update(both)), torch.sigmoid(reset(both))
    q = torch.tanh(candidate(torch.cat([r * hidden, inputs], dim=1)))
    return (1 - z) * hidden + z * q
