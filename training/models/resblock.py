"""Convolutional layers of the UNet: the residual block with its temporal convolutions, changes of size, embeddings of numbers.

Names of submodules are keys of the public checkpoints, `temopral_conv` included, which is spelled so there.
Source: spec of the public model (DynamiCrafter / ToonCrafter code family).
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.block import ConditionedLayer, Conditions

Layer = TypeVar("Layer", bound=nn.Module)


def zero_init(layer: Layer) -> Layer:
    """Returns the layer with all parameters zero, so that the branch it ends is silent in a fresh model."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def unfold(x: Tensor, num_frames: int) -> Tensor:
    """[(b t), c, h, w] -> [b, c, t, h, w]."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def fold(x: Tensor) -> Tensor:
    """[b, c, t, h, w] -> [(b t), c, h, w], batch-major."""
    return x.transpose(1, 2).flatten(0, 1)


def sinusoid(positions: Tensor, dim: int) -> Tensor:
    """Embeds numbers [b] as [b, dim] float32: cosines, then sines, of frequencies 10000 ** (-i / half); odd dims add a zero."""
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * torch.exp(-math.log(10000) * index / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


class Float32Linear(nn.Linear):
    """A linear map in float32 whatever the dtype of its weights: neighbouring steps differ by less than bf16 resolves."""

    def forward(self, x: Tensor) -> Tensor:
        # The meta device, on which costs are counted, knows no autocast.
        kind = x.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            return F.linear(x.float(), self.weight.float(), self.bias.float())


def embedding_mlp(channels: int, embedding_dim: int) -> nn.Sequential:
    """Maps a sinusoid [b, channels] to an embedding [b, embedding_dim], in float32."""
    return nn.Sequential(Float32Linear(channels, embedding_dim), nn.SiLU(), Float32Linear(embedding_dim, embedding_dim))


class GroupNorm32(nn.GroupNorm):
    """32 groups, statistics and scaling in float32, result in the input's dtype.

    A 4-D input is normalised per frame, a 5-D input over all its frames together.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(32, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class TemporalConvBlock(nn.Module):
    """Four convolutions along time added to the input, [b, c, t, h, w] to the same; the identity in a fresh model."""

    def __init__(self, channels: int, *, dropout: float) -> None:
        super().__init__()

        def stage(*dropouts: nn.Module) -> nn.Sequential:
            conv = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            return nn.Sequential(GroupNorm32(channels), nn.SiLU(), *dropouts, conv)

        self.conv1 = stage()
        self.conv2 = stage(nn.Dropout(dropout))
        self.conv3 = stage(nn.Dropout(dropout))
        self.conv4 = stage(nn.Dropout(dropout))
        zero_init(self.conv4[-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv4(self.conv3(self.conv2(self.conv1(x))))


class ResBlock(ConditionedLayer):
    """Residual block over one frame that adds the embedding, then, with `temporal_conv`, convolutions along time.

    `dropout` serves both parts; the public model fixes it at 0.1 in the temporal one.
    """

    def __init__(self, in_channels: int, out_channels: int, *, embedding_dim: int, dropout: float, temporal_conv: bool) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm32(in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_dim, out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels), nn.SiLU(), nn.Dropout(dropout),
            zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1)))
        self.skip_connection = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.temopral_conv = TemporalConvBlock(out_channels, dropout=dropout) if temporal_conv else None

    def compute(self, x: Tensor, conditions: Conditions) -> Tensor:
        h = self.in_layers(x)
        # The embedding is float32 until here; the layer it enters may hold bf16 weights.
        h = h + self.emb_layers(conditions.embedding.to(h.dtype))[:, :, None, None]
        h = self.skip_connection(x) + self.out_layers(h)
        if self.temopral_conv is None or conditions.bypass_temporal:
            return h
        return fold(self.temopral_conv(unfold(h, conditions.num_frames)))
