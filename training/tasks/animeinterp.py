"""AnimeInterp learns to draw the frame between two others: L1 to the true one, in the two phases of the paper.

AnimeInterp (arXiv 2104.02495), section 5: first the refinement of flow is frozen as RAFT left it and the rest learns, without
coarse flows; then everything learns, coarse flows of segment-guided matching included. Phases are presets: what trains is
task.train_groups, whether coarse flows enter is data.triplets.flows. No training program was released. Choices where sources are
silent: L1 is taken of pictures in [0, 1] and is the mean over pixels and channels; the optimiser is AdamW without weight decay.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import UserError
from training.animeinterp.behaviour import Behaviour
from training.animeinterp.network import MIDDLE, TINY, AnimeInterp, Sizes
from training.config import FlowSource, Preset, TrainJob, Variant, parse_size
from training.data.batch import Batch
from training.engine import Engine
from training.models.parameter_groups import group_of
from training.params import ParamPlan
from training.tasks.task import StepReport, Trained

ENGINE = "interpolator"
MODEL, PREFIX = "animeinterp", "network."
CONFIDENCE = "flow_confidence"


class MiddleFrame(nn.Module):
    """The network as the engine calls it: from outer frames and coarse flows to the middle frame alone."""

    def __init__(self, network: AnimeInterp, num_iterations: int) -> None:
        super().__init__()
        self.network, self.num_iterations = network, num_iterations

    def forward(self, first: Tensor, last: Tensor, *flows: Tensor) -> Tensor:
        """Frames [n, 3, h, w] in [0, 1] and no flows or both [n, 2, h, w], to [n, 3, h, w], not clamped."""
        coarse01, coarse10 = flows or (None, None)
        made: Tensor = self.network(first, last, coarse01, coarse10, MIDDLE, num_iterations=self.num_iterations).image
        return made


class Interpolate:
    """One engine, the whole network; frozen parts of it lie within."""

    def __init__(self, job: TrainJob, network: AnimeInterp) -> None:
        self.job = job
        _refuse_idle_groups(job)
        module = MiddleFrame(network, job.task.interpolation.num_iterations)
        plan = ParamPlan.by_group(MODEL, network, job.task.train_groups, prefix=PREFIX)
        # Its parts hand dataclasses to each other, which ZeRO-3's hooks cannot look into; the weights are 25 MB.
        self.trained = {ENGINE: Trained(module, plan, job.task.optim, expected=job.recipe_count, partition_weights=False)}
        self.frozen: dict[str, nn.Module] = {}

    def active(self, step: int) -> tuple[str, ...]:
        return (ENGINE,)

    def backward(self, engines: Mapping[str, Engine], batch: Batch, step: int) -> StepReport:
        losses = _l1(self._middle(engines[ENGINE], batch), _unit(batch.video)[:, :, 1])
        engines[ENGINE].backward(losses.mean())
        return StepReport({"loss": losses.detach().mean()}, losses.detach())

    @torch.no_grad()
    def heldout(self, engines: Mapping[str, Engine], batch: Batch) -> dict[str, Tensor]:
        """The training loss, and PSNR (dB) of the clamped frame, whole frames not crops; the same of the outer frames' mean."""
        truth, faded = _unit(batch.video)[:, :, 1], _unit(batch.video)[:, :, [0, 2]].mean(dim=2)
        made = self._middle(engines[ENGINE], batch)
        return {"loss": _l1(made, truth), "psnr": _psnr(made.clamp(0, 1), truth), "psnr_crossfade": _psnr(faded, truth)}

    @torch.no_grad()
    def preview(self, engines: Mapping[str, Engine], batch: Batch, ddim_steps: int) -> Tensor:
        """The triplets, and below them the same with the middle frame as it was made: [b, 3, 3, 2 H, W]."""
        made = 2 * self._middle(engines[ENGINE], batch).clamp(0, 1) - 1
        first, _, last = batch.video.unbind(dim=2)
        return torch.cat([batch.video, torch.stack([first, made, last], dim=2)], dim=3)

    def export(self, weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The whole network, frozen parts included, under the names of the published weights."""
        return {name.removeprefix(PREFIX): tensor for name, tensor in weights[ENGINE].items()}

    def flops_per_clip(self) -> float:
        width, height = parse_size(self.job.data.size, "data.size")
        task = self.job.task
        return _count(self.job.model.preset is Preset.TINY, task.interpolation.splatting, task.interpolation.num_iterations,
                      tuple(task.train_groups), height, width)

    def _middle(self, engine: Engine, batch: Batch) -> Tensor:
        """The middle frame [b, 3, H, W] in float32, about [0, 1]."""
        if (batch.flows is None) != (self.job.data.triplets.flows is FlowSource.NONE):
            raise AssertionError("the batch's flows are not what data.triplets.flows says")
        first, _, last = _unit(batch.video).unbind(dim=2)
        flows = () if batch.flows is None else batch.flows.unbind(dim=1)
        made: Tensor = engine(first, last, *flows)
        return made.float()


def _refuse_idle_groups(job: TrainJob) -> None:
    """A parameter that gets no gradient is a mistake of the recipe, and would have no optimiser state to save."""
    enters = job.task.interpolation.behaviour is Variant.PAPER and job.data.triplets.flows is not FlowSource.NONE
    if CONFIDENCE in job.task.train_groups and not enters:
        raise UserError(f"task.train_groups names {CONFIDENCE}, which would learn nothing",
                        "only task.interpolation.behaviour=paper uses it, and only where coarse flows are given",
                        f"Leave out {CONFIDENCE}, or set data.triplets.flows and task.interpolation.behaviour=paper")


def _unit(video: Tensor) -> Tensor:
    return (video + 1) / 2


def _l1(made: Tensor, truth: Tensor) -> Tensor:
    return F.l1_loss(made, truth, reduction="none").flatten(1).mean(dim=1)


def _psnr(made: Tensor, truth: Tensor) -> Tensor:
    return -10 * (made - truth).square().flatten(1).mean(dim=1).clamp(min=1e-10).log10()


@functools.cache
def _count(is_tiny: bool, splatting: Variant, num_iterations: int, train_groups: tuple[str, ...], height: int,
           width: int) -> float:
    """Floating-point operations of a forward and backward pass on one triplet, counted without memory."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = AnimeInterp(splatting=Behaviour(splatting.value), sizes=TINY if is_tiny else Sizes())
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(group_of(MODEL, name) in train_groups)
        frame = torch.empty(1, 3, height, width)
        made = network(frame, frame, num_iterations=num_iterations).image
        if made.requires_grad:
            made.sum().backward()
    return float(counter.get_total_flops())
