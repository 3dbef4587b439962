"""AnimeInterp as a whole: refine both flows, splat pictures and features to the middle, synthesise.

Source: arXiv 2104.02495, sections 4.2 and 4.3, and its release. Names and shapes are those of the published weights, with one
addition: splatting as the paper names it (SoftSplat's) weighs pixels by how well the other frame agrees, times a learnt factor
`importance.alpha`, which the published weights lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import weights
from training.animeinterp.behaviour import Behaviour
from training.animeinterp.correlation import pixel_grid, sample
from training.animeinterp.gridnet import CHANNELS, SIDE_MULTIPLE_PX, FeatureExtractor, GridNet, pair
from training.animeinterp.rfr import NUM_ITERATIONS, FlowSizes, RecurrentFlowRefinement
from training.animeinterp.splatting import Holes, Mode, splat

MIDDLE = 0.5
FIRST_ALPHA = -1.0          # the paper of SoftSplat says learnt and negative; where it starts is chosen here


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of the whole network; the defaults are the published ones."""

    flow: FlowSizes = field(default_factory=FlowSizes)
    synthesis: tuple[int, int, int] = CHANNELS


# For tests and trainings on a CPU: 0.17 million parameters, frames from 32 pixels on.
TINY = Sizes(flow=FlowSizes(encoder=(8, 12, 16), width=16, num_levels=2, radius=3), synthesis=(8, 12, 16))


@dataclass(frozen=True, slots=True)
class Interpolation:
    """The picture between two frames and the flows it came from.

    image [n, 3, h, w], about [0, 1] and not clamped; flow01 and flow10 [n, 2, h, w] in pixels between the frames;
    start01 and start10 [n, 2, h/8, w/8]: the coarse flows on the grid of the refinement, None where there were none.
    """

    image: Tensor
    flow01: Tensor
    flow10: Tensor
    start01: Tensor | None
    start10: Tensor | None


class Importance(nn.Module):
    """SoftSplat's metric Z = alpha * |I0 - I1 fetched along the flow|, eq. 12 there, averaged over channels here."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([FIRST_ALPHA]))

    def forward(self, image: Tensor, other: Tensor, flow: Tensor) -> Tensor:
        """Returns Z [n, 1, h, w] of pictures [n, 3, h, w] and the flow [n, 2, h, w] between them."""
        fetched = sample(other, (pixel_grid(flow) + flow).permute(0, 2, 3, 1))
        return self.alpha * (image - fetched).abs().mean(dim=1, keepdim=True)


class AnimeInterp(nn.Module):
    """The interpolation network without segment-guided matching, whose flows are given.

    `behaviour` decides how refinement starts (the paper's way is better for new trainings, the released way fits the
    published weights), `splatting` whether pixels are averaged (released) or weighed by importance (paper).
    """

    def __init__(self, *, behaviour: Behaviour = Behaviour.RELEASED, splatting: Behaviour = Behaviour.RELEASED,
                 sizes: Sizes | None = None) -> None:
        super().__init__()
        sizes = sizes or Sizes()
        self.flownet = RecurrentFlowRefinement(behaviour=behaviour, sizes=sizes.flow)
        self.feat_ext = FeatureExtractor(sizes.synthesis)
        self.synnet = GridNet(sizes.synthesis)
        self.importance = Importance() if splatting is Behaviour.PAPER else None

    def forward(self, image0: Tensor, image1: Tensor, coarse01: Tensor | None = None, coarse10: Tensor | None = None,
                t: float = MIDDLE, *, num_iterations: int = NUM_ITERATIONS) -> Interpolation:
        """Returns the picture at time t in (0, 1) between pictures [n, 3, h, w] in [0, 1].

        Coarse flows [n, 2, h, w] in pixels come from segment-guided matching. Sides that are no multiples of 4 are
        extended by repeating the border and cropped again. UserError for pictures too small for the flow network.
        """
        height, width = image0.shape[-2:]
        image0, image1 = _extended(image0), _extended(image1)
        coarse01, coarse10 = (None if flow is None else _extended(flow) for flow in (coarse01, coarse10))
        signed0, signed1 = 2 * image0 - 1, 2 * image1 - 1
        refined01 = self.flownet(signed0, signed1, coarse01, num_iterations=num_iterations)
        refined10 = self.flownet(signed1, signed0, coarse10, num_iterations=num_iterations)
        made = self.synthesise(image0, image1, refined01.flow, refined10.flow, t)
        return Interpolation(
            image=made[..., :height, :width], flow01=refined01.flow[..., :height, :width],
            flow10=refined10.flow[..., :height, :width],
            start01=None if refined01.start is None else refined01.start.flow,
            start10=None if refined10.start is None else refined10.start.flow)

    def synthesise(self, image0: Tensor, image1: Tensor, flow01: Tensor, flow10: Tensor, t: float = MIDDLE) -> Tensor:
        """Returns the picture [n, 3, h, w] at time t from pictures in [0, 1] and final flows; sides are multiples of 4."""
        moved0, features0 = self.warped(image0, image1, flow01, t)
        moved1, features1 = self.warped(image1, image0, flow10, 1 - t)
        made: Tensor = self.synnet(torch.cat([moved0, moved1], dim=1), pair(features0, features1))
        return made

    def warped(self, image: Tensor, other: Tensor, flow: Tensor, t: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns a picture and its features, splatted along t * flow; holes are 0."""
        metric = None if self.importance is None else self.importance(image, other, flow)
        levels = [splat_level(features, t * flow, metric) for features in self.feat_ext(2 * image - 1)]
        return splat_level(image, t * flow, metric), tuple(levels)


def splat_level(values: Tensor, flow: Tensor, metric: Tensor | None) -> Tensor:
    """Splats [n, c, h', w'] along a flow and metric of full size, which are brought to h' x w' by nearest neighbours."""
    size = values.shape[-2:]
    ratio = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    flow = F.interpolate(flow, size=size, mode="nearest") * ratio[:, None, None]
    if metric is None:
        return splat(values, flow, Mode.AVERAGE, holes=Holes.ZERO_TO_ONE)
    return splat(values, flow, Mode.SOFTMAX, F.interpolate(metric, size=size, mode="nearest"))


def load_published(network: AnimeInterp, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Loads published weights (as `pipeline.weights.read_tensors` gives them); only `importance` may be absent.

    UserError where names or shapes do not fit.
    """
    weights.load_into(network, tensors, source=source, may_miss=lambda name: name.startswith("importance."))


def load_raft(network: AnimeInterp, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Starts the refinement from weights of RAFT's large model in its authors' names; the confidence network stays as it is.

    RAFT has a context network of its own, which is not used here. UserError where names or shapes do not fit.
    """
    known = {name: tensor for name, tensor in tensors.items() if not name.startswith("cnet.")}
    weights.load_into(network.flownet, known, source=source, may_miss=lambda name: name.startswith("attention2."))


def _extended(maps: Tensor) -> Tensor:
    missing = [-side % SIDE_MULTIPLE_PX for side in maps.shape[-2:]]
    return F.pad(maps, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else maps
