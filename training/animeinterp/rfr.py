"""Recurrent flow refinement: RAFT's iterations started from a coarse flow. Source: arXiv 2104.02495, section 4.2.

The released program computes how far the coarse flow may be trusted, does not use it, and adds the coarse flow twice; the paper
multiplies the two and adds it once. `behaviour` chooses. Names are those of the published weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from training.animeinterp.behaviour import Behaviour
from training.animeinterp.correlation import Correlation, pixel_grid, sample
from training.animeinterp.update_block import UPSAMPLING, UpdateBlock, upsample

NUM_ITERATIONS = 12


@dataclass(frozen=True, slots=True)
class FlowSizes:
    """Widths of the refinement network; the defaults are the published ones."""

    encoder: tuple[int, int, int] = (64, 96, 128)
    width: int = 128                    # of hidden state, context and motion features; feature maps have twice as many
    num_levels: int = 4                 # of the correlation pyramid
    radius: int = 4

    @property
    def least_side_px(self) -> int:
        """Shorter sides leave the smallest correlation map without two rows and columns."""
        return int(UPSAMPLING * 2**self.num_levels)


@dataclass(frozen=True, slots=True)
class Start:
    """The coarse flow on the small grid [n, 2, h, w], how badly it fits, g and exp(-g^2), each [n, 1, h, w]."""

    flow: Tensor
    error: Tensor
    attention: Tensor
    confidence: Tensor


@dataclass(frozen=True, slots=True)
class Refinement:
    """Refined flows [n, 2, h, w] in pixels, the last iteration last, and what they started from, if anything."""

    flows: tuple[Tensor, ...]
    start: Start | None

    @property
    def flow(self) -> Tensor:
        return self.flows[-1]


class ResidualBlock(nn.Module):
    """Two convolutions with ReLU and a shortcut; no normalisation."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        found = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu((x if self.downsample is None else self.downsample(x)) + found)


class Encoder(nn.Module):
    """Features on an eighth of the picture; the same network gives correlation features and context."""

    def __init__(self, channels: tuple[int, int, int], out_channels: int) -> None:
        super().__init__()
        one, two, three = channels
        self.conv1 = nn.Conv2d(3, one, 7, stride=2, padding=3)
        self.layer1 = nn.Sequential(ResidualBlock(one, one, stride=1), ResidualBlock(one, one, stride=1))
        self.layer2 = nn.Sequential(ResidualBlock(one, two, stride=2), ResidualBlock(two, two, stride=1))
        self.layer3 = nn.Sequential(ResidualBlock(two, three, stride=2), ResidualBlock(three, three, stride=1))
        self.conv2 = nn.Conv2d(three, out_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Returns [n, c, h/8, w/8] of pictures [n, 3, h, w] in [-1, 1]."""
        found: Tensor = self.conv2(self.layer3(self.layer2(self.layer1(F.relu(self.conv1(image))))))
        return found


class ErrorAttention(nn.Module):
    """From picture, matching error and flow to g; exp(-g^2) is how far the flow is trusted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(6, 32, 5, padding=2), nn.PReLU()
        self.conv2, self.prelu2 = nn.Conv2d(32, 32, 3, padding=1), nn.PReLU()
        self.conv3 = nn.Conv2d(38, 1, 3, padding=1)

    def forward(self, image: Tensor, error: Tensor, flow: Tensor) -> Tensor:
        """Returns g [n, 1, h, w] of image [n, 3, h, w], error [n, 1, h, w] and flow [n, 2, h, w]."""
        given = torch.cat([image, error, flow], dim=1)
        found = self.conv2(self.prelu1(self.conv1(given)))
        g: Tensor = self.conv3(self.prelu2(torch.cat([found, given], dim=1)))
        return g


class RecurrentFlowRefinement(nn.Module):
    """Flow from image1 to image2, refined from a coarse one or from zero."""

    def __init__(self, *, behaviour: Behaviour = Behaviour.RELEASED, sizes: FlowSizes | None = None) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.sizes = sizes or FlowSizes()
        self.attention2 = ErrorAttention()
        self.fnet = Encoder(self.sizes.encoder, 2 * self.sizes.width)
        samples = self.sizes.num_levels * (2 * self.sizes.radius + 1) ** 2
        self.update_block = UpdateBlock(samples, width=self.sizes.width)

    def forward(self, image1: Tensor, image2: Tensor, coarse: Tensor | None = None, *, num_iterations: int = NUM_ITERATIONS,
                every_iteration: bool = False) -> Refinement:
        """Refines `coarse` [n, 2, h, w], or zero; images [n, 3, h, w] in [-1, 1].

        Returns the last iteration's flow or, with every_iteration, all of them. UserError where the pictures are too
        small for the correlation pyramid.
        """
        height, width = image1.shape[-2:]
        image1, image2 = self._resized(image1), self._resized(image2)
        features1, features2 = self.fnet(image1), self.fnet(image2)
        # The context is the same network's features of the first picture, used otherwise.
        hidden, context = features1.chunk(2, dim=1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        correlation = Correlation(features1, features2, num_levels=self.sizes.num_levels, radius=self.sizes.radius)

        start = None if coarse is None else self.start(image1, image2, coarse)
        begin = self._begin(start, features1)
        # Iterations do not differentiate through positions; this keeps the gradient of the beginning, whose value is 0.
        trace = begin - begin.detach()
        own = pixel_grid(features1)
        points = own + begin
        flows = []
        for iteration in range(num_iterations):
            points = points.detach()
            hidden, change = self.update_block(hidden, context, correlation.lookup(points), points - own)
            points = points + change
            if every_iteration or iteration == num_iterations - 1:
                mask = self.update_block.upsampling_mask(hidden)
                flows.append(_fitted(upsample(points - own + trace, mask), height, width))
        return Refinement(flows=tuple(flows), start=start)

    def start(self, image1: Tensor, image2: Tensor, coarse: Tensor) -> Start:
        """Brings the coarse flow [n, 2, h, w] to the small grid and judges it; images [n, 3, 8i, 8j] in [-1, 1]."""
        size = (image1.shape[-2] // UPSAMPLING, image1.shape[-1] // UPSAMPLING)
        ratio = coarse.new_tensor([size[1] / coarse.shape[-1], size[0] / coarse.shape[-2]])
        flow = F.interpolate(coarse, size=size, mode="nearest") * ratio[:, None, None]
        small1, small2 = (F.interpolate(image, size=size, mode="bilinear", align_corners=False) for image in (image1, image2))
        fetched = sample(small2, (pixel_grid(flow) + flow).permute(0, 2, 3, 1))
        error = (fetched - small1).abs().sum(dim=1, keepdim=True)
        attention = self.attention2(small1, error, flow)
        return Start(flow=flow, error=error, attention=attention, confidence=torch.exp(-attention.square()))

    def _begin(self, start: Start | None, features: Tensor) -> Tensor:
        if start is None:
            return features.new_zeros(features.shape[0], 2, *features.shape[-2:])
        if self.behaviour is Behaviour.PAPER:
            return start.confidence * start.flow
        return 2 * start.flow       # added to the grid, and once more before the first iteration

    def _resized(self, image: Tensor) -> Tensor:
        height, width = (UPSAMPLING * (side // UPSAMPLING) for side in image.shape[-2:])
        least = self.sizes.least_side_px
        if min(height, width) < least:
            found = f"{image.shape[-1]}x{image.shape[-2]}"
            raise UserError(f"frames of {found} are too small to refine flow on",
                            f"the correlation pyramid of {self.sizes.num_levels} levels needs sides of {least} pixels",
                            "Use larger frames or crops")
        return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)


def _fitted(flow: Tensor, height: int, width: int) -> Tensor:
    """Enlarges a flow on sides that are multiples of 8 to the picture's own size, in the picture's own pixels."""
    ratio = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])
    return F.interpolate(flow * ratio[:, None, None], size=(height, width), mode="bilinear", align_corners=False)
