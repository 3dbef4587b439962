"""DDIM sampling (arXiv 2010.02502) with the dynamic rescale of DynamiCrafter, step for step as the public sampler does it.

Kept, because public results depend on it: the last step goes to abar of step 0 instead of 1 and still adds noise; the rescale
stops at the factor of the smallest step, which leaves the result a little too small (`finish_rescale` undoes that: it changes
contrast and is off by default). Not kept: the public sampler takes the root of a tiny negative number at the first step for
some step counts, and fails when uniform spacing reaches the end of the schedule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from training.diffusion.schedule import Parameterization, Schedule

START = -1      # the step index of the noise that sampling starts from


class Spacing(StrEnum):
    """Which steps of the schedule are visited."""

    UNIFORM = "uniform"
    UNIFORM_TRAILING = "uniform_trailing"       # ends at the last step, hence starts from pure noise (arXiv 2305.08891)


@dataclass(frozen=True, eq=False, slots=True)
class Trajectory:
    """Coefficients of a sampling run, [n] each, ascending in time; sampling walks them from the end."""

    timesteps: Tensor           # int64
    abar: Tensor                # float64, at the step
    abar_previous: Tensor       # float64, at the step after it in sampling order
    sigmas: Tensor              # float64, noise added when leaving the step
    scale: Tensor               # float64, dynamic rescale at the step
    scale_previous: Tensor      # float64

    @property
    def towards_noise(self) -> Tensor:
        """Factors of the predicted noise: sqrt(1 - abar_previous - sigma^2), where rounding may fall below 0 with eta 1."""
        return (1 - self.abar_previous - self.sigmas.square()).clamp(min=0).sqrt()


def timesteps(schedule: Schedule, steps: int, spacing: Spacing | str) -> list[int]:
    """Returns the visited steps of the schedule, ascending.

    `uniform` may return more than `steps` (1000 // 30 = 33 fits 31 times); where it passes the end of the schedule, the last
    step is taken instead. `uniform_trailing` rounds halves to even. A number of steps that does not fit raises UserError.
    """
    total = schedule.num_steps
    if not 1 <= steps <= total:
        raise UserError(f"{steps} sampling steps are not possible", f"the noise schedule has {total} steps",
                        f"Use 1 to {total}")
    if Spacing(spacing) is Spacing.UNIFORM:
        return sorted({min(step + 1, total - 1) for step in range(0, total, total // steps)})
    rounded = np.round(np.arange(total, 0, -total / steps)).astype(int)
    return sorted({int(step) - 1 for step in rounded if step >= 1})     # arange may overshoot by one value near 0


def trajectory(schedule: Schedule, steps: int, spacing: Spacing | str, *, eta: float,
               finish_rescale: bool = False) -> Trajectory:
    """Returns the coefficients of a run. eta 0 is deterministic, 1 adds as much noise as DDPM does."""
    visited = torch.tensor(timesteps(schedule, steps, spacing))
    abar, scale = schedule.abar.cpu()[visited], schedule.scale_at(visited)
    before = torch.cat([schedule.abar.cpu()[:1], abar[:-1]])
    sigmas = eta * ((1 - before) / (1 - abar) * (1 - abar / before)).sqrt()
    # At the last step the public sampler takes the ratio of a factor with itself; the true end would be 1.
    end = torch.ones_like(scale[:1]) if finish_rescale else scale[:1]
    return Trajectory(visited, abar, before, sigmas, scale, torch.cat([end, scale[:-1]]))


@torch.no_grad()
def sample(schedule: Schedule, predict: Callable[[Tensor, Tensor], Tensor], x_T: Tensor, *, steps: int,
           spacing: Spacing | str = Spacing.UNIFORM_TRAILING, eta: float = 1.0,
           noise: Callable[[int], Tensor] | None = None, temperature: float = 1.0, finish_rescale: bool = False,
           on_step: Callable[[int, Tensor, Tensor], None] | None = None) -> Tensor:
    """Returns the denoised latents, [b, ...] float32 on x_T's device.

    `predict(x, t [b])` is the network, conditions bound and guidance applied. `noise(step_index)` gives the noise of a step in
    sampling order, in x_T's shape (any device); it is not asked with eta 0. `on_step(step_index, x, x0)` sees each new state
    and its clean prediction, and may raise to stop.
    """
    plan = trajectory(schedule, steps, spacing, eta=eta, finish_rescale=finish_rescale)
    if schedule.parameterization is Parameterization.EPS and not plan.abar.all():
        raise UserError("predicted noise cannot be sampled from a step without signal",
                        f"the schedule ends with zero signal and {spacing} spacing visits that step",
                        "Use uniform spacing, a schedule without zero terminal SNR, or v-prediction")
    assert noise is not None or not eta, "sampling with eta above 0 needs a source of noise"
    towards_noise = plan.towards_noise
    x = x_T.float()
    for step_index, j in enumerate(reversed(range(len(plan.timesteps)))):
        t = torch.full((len(x),), int(plan.timesteps[j]), device=x.device)
        prediction = predict(x, t).float()
        x0 = schedule.x0_from(prediction, x, t) * float(plan.scale_previous[j] / plan.scale[j])
        eps = schedule.eps_from(prediction, x, t)
        x = float(plan.abar_previous[j].sqrt()) * x0 + float(towards_noise[j]) * eps
        if noise is not None and eta:
            x = x + float(plan.sigmas[j]) * temperature * noise(step_index).to(x)
        if on_step is not None:
            on_step(step_index, x, x0)
    return x


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Callable[[int], Tensor]:
    """Returns a source of noise for `sample`: step_index -> [len(seeds), *shape] float32 on the CPU.

    Each sample has generators of its own, a fresh one per step, so a seed gives the same video in any batch and on any device,
    and steps may be asked in any order. Step index START gives the noise that sampling starts from.
    """
    def draw(step_index: int) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=_generator(seed, step_index)) for seed in seeds])

    return draw


def _generator(seed: int, step_index: int) -> torch.Generator:
    entropy = np.random.SeedSequence((seed % 2 ** 64, step_index - START))
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
