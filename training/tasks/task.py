"""What the loop asks of a training: what is trained, one forward and backward, losses and pictures of held-out clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from training.config import OptimConfig
from training.data.batch import Batch
from training.engine import Engine
from training.params import ParamPlan


@dataclass(frozen=True, slots=True)
class Trained:
    """What one engine wraps; everything that only stands beside it belongs to Task.frozen."""

    module: nn.Module
    plan: ParamPlan
    optim: OptimConfig
    expected: int | None = None       # trainable parameters of the recipe; another number refuses to start
    partition_weights: bool = True    # False: it is also called beside its engine (`engine.module`), which rules out ZeRO-3

    def __post_init__(self) -> None:
        assert self.plan.covers(self.module), "the plan must name every parameter of the engine's module"


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one micro-batch came to, all detached."""

    values: dict[str, Tensor]         # scalars to log; "loss" is shown in the progress line
    per_sample: Tensor                # [b]: the loss that must be finite
    timesteps: Tensor | None = None   # [b]; None where a task has none


class Task(Protocol):
    @property
    def trained(self) -> Mapping[str, Trained]:
        """By engine name."""

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """Networks outside the engines that the results depend on, by name."""

    def backward(self, engines: Mapping[str, Engine], batch: Batch, step: int) -> StepReport:
        """Forward and backward of one micro-batch through the active engines; never Engine.step."""

    def active(self, step: int) -> tuple[str, ...]:
        """The engines that are updated at optimiser step `step`, counted from 0. Others get no gradient."""

    def heldout(self, engines: Mapping[str, Engine], batch: Batch) -> dict[str, Tensor]:
        """Losses [b] by name under no_grad; the same for the same batch and weights. "loss", or the mean of all, is the score."""

    def preview(self, engines: Mapping[str, Engine], batch: Batch, ddim_steps: int) -> Tensor:
        """Videos [b, 3, t, H, W] in [-1, 1] to look at."""

    def export(self, weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The engines' weights under the upstream names."""

    def flops_per_clip(self) -> float:
        """Of forward and backward together; 0 where unknown."""
