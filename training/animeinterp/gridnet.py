"""Synthesis: three feature levels of the two frames, and the grid that makes a picture of what was splatted.

SoftSplat's grid (arXiv 2003.05534, after GridNet, arXiv 1707.07958) with two of its six columns left out, as AnimeInterp's
release has it. Names are those of the published weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (32, 64, 96)         # of the levels at full, half and quarter size
SIDE_MULTIPLE_PX = 4            # three rows: sides must halve twice


class FeatureExtractor(nn.Module):
    """Three levels of features of a picture, each convolution with a PReLU of one parameter."""

    def __init__(self, channels: tuple[int, int, int] = CHANNELS) -> None:
        super().__init__()
        one, two, three = channels
        self.conv1, self.prelu1 = nn.Conv2d(3, one, 3, padding=1), nn.PReLU()
        self.conv2, self.prelu2 = nn.Conv2d(one, one, 3, padding=1), nn.PReLU()
        self.conv3, self.prelu3 = nn.Conv2d(one, two, 3, stride=2, padding=1), nn.PReLU()
        self.conv4, self.prelu4 = nn.Conv2d(two, two, 3, padding=1), nn.PReLU()
        self.conv5, self.prelu5 = nn.Conv2d(two, three, 3, stride=2, padding=1), nn.PReLU()
        self.conv6, self.prelu6 = nn.Conv2d(three, three, 3, padding=1), nn.PReLU()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns [n, c_i, h / 2^i, w / 2^i] for i = 0, 1, 2 of pictures [n, 3, h, w] in [-1, 1]."""
        one = self.prelu2(self.conv2(self.prelu1(self.conv1(image))))
        two = self.prelu4(self.conv4(self.prelu3(self.conv3(one))))
        three = self.prelu6(self.conv6(self.prelu5(self.conv5(two))))
        return one, two, three


class Enlarge(nn.Module):
    """Doubles height and width bilinearly; has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class GridNet(nn.Module):
    """From splatted pictures and features of both frames to the picture between them, neither clamped nor a residual."""

    def __init__(self, channels: tuple[int, int, int] = CHANNELS) -> None:
        super().__init__()
        one, two, three = channels
        self.residual_model_head = _block(6, one)
        self.residual_model_head1 = _block(2 * one, one)
        self.residual_model_head2 = _block(2 * two, two)
        self.residual_model_head3 = _block(2 * three, three)
        self.residual_model_01, self.residual_model_04, self.residual_model_05 = (_block(one, one) for _ in range(3))
        self.residual_model_11, self.residual_model_14, self.residual_model_15 = (_block(two, two) for _ in range(3))
        self.residual_model_21, self.residual_model_24, self.residual_model_25 = (_block(three, three) for _ in range(3))
        self.residual_model_tail = _block(one, 3)
        self.downsample_model_10, self.downsample_model_11 = (_block(one, two, stride=2) for _ in range(2))
        self.downsample_model_20, self.downsample_model_21 = (_block(two, three, stride=2) for _ in range(2))
        self.upsample_model_04, self.upsample_model_05 = (nn.Sequential(Enlarge(), *_block(two, one)) for _ in range(2))
        self.upsample_model_14, self.upsample_model_15 = (nn.Sequential(Enlarge(), *_block(three, two)) for _ in range(2))

    def forward(self, images: Tensor, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Returns [n, 3, h, w] of images [n, 6, h, w] (both, splatted) and both's features [n, 2 c_i, h / 2^i, w / 2^i].

        h and w are multiples of 4.
        """
        first, second, third = features
        # Downwards: a is the first column, b the second.
        a0 = self.residual_model_head(images) + self.residual_model_head1(first)
        a1 = self.downsample_model_10(a0) + self.residual_model_head2(second)
        a2 = self.downsample_model_20(a1) + self.residual_model_head3(third)
        b0 = a0 + self.residual_model_01(a0)
        b1 = a1 + self.residual_model_11(a1) + self.downsample_model_11(b0)
        b2 = a2 + self.residual_model_21(a2) + self.downsample_model_21(b1)
        # Upwards: c is the fourth column, d the fifth; the third was left out.
        c2 = b2 + self.residual_model_24(b2)
        d2 = c2 + self.residual_model_25(c2)
        c1 = self.upsample_model_14(c2) + b1 + self.residual_model_14(b1)
        c0 = self.upsample_model_04(c1) + b0 + self.residual_model_04(b0)
        d1 = self.upsample_model_15(d2) + c1 + self.residual_model_15(c1)
        d0 = self.upsample_model_05(d1) + c0 + self.residual_model_05(c0)
        found: Tensor = self.residual_model_tail(d0)
        return found


def pair(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Joins the features of two frames level by level along channels."""
    one, two, three = (torch.cat(both, dim=1) for both in zip(first, second, strict=True))
    return one, two, three


def _block(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.PReLU(), nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
                         nn.PReLU(), nn.Conv2d(out_channels, out_channels, 3, padding=1))
