"""The denoising network as one module: UNet and image-context projector, and the loss that the two diffusion trainings share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.diffusion.ddim import START, Spacing, sample, seeded_noise
from training.diffusion.guidance import Branch, Guidance
from training.diffusion.objective import diffusion_loss
from training.diffusion.schedule import Schedule
from training.models.resampler import Resampler
from training.models.unet3d import UNet3D
from training.seeds import per_sample_noise, timesteps
from training.tasks.conditions import Encoders, end_latents

HELDOUT_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)   # of the schedule's steps; chosen here
PREVIEW_GUIDANCE = Guidance()                   # ToonCrafter's own: scale 7.5, rescale 0.7


@dataclass(frozen=True, slots=True)
class Given:
    """Everything the network is told about a batch besides the noisy latent."""

    z0: Tensor          # [b, 4, t, h, w] scaled clean latents
    ends: Tensor        # the same shape: end frames, zeros between
    text: Tensor        # [b, 77, D]
    image: Tensor       # [b, 257, E]
    fps: Tensor         # [b] int64

    @classmethod
    def of(cls, encoders: Encoders, batch: Batch) -> Given:
        z0 = encoders.latents(batch)
        return cls(z0, end_latents(z0), encoders.caption_tokens(batch), encoders.image_tokens(batch), batch.fps)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.ends, self.text, self.image, self.fps


class Denoiser(nn.Module):
    """UNet3D behind its image-context projector; `bypass_temporal` leaves the temporal layers out while training."""

    def __init__(self, unet: UNet3D, projector: Resampler, *, bypass_temporal: bool = False) -> None:
        super().__init__()
        self.unet = unet
        self.projector = projector
        self.bypass_temporal = bypass_temporal

    def context(self, text: Tensor, image: Tensor, num_frames: int) -> Tensor:
        """Tokens of cross-attention [b, 77 + 16 t, D]: the caption's, then each frame's of the picture."""
        tokens = self.projector(image, num_frames)
        return torch.cat([text.to(tokens.dtype), tokens], dim=1)

    def forward(self, x_t: Tensor, t: Tensor, ends: Tensor, text: Tensor, image: Tensor, fps: Tensor) -> Tensor:
        """The prediction v [b, 4, t, h, w] of noisy latents x_t at steps t [b]; the other arguments as in Given."""
        context = self.context(text, image, x_t.shape[2])
        return self.unet(torch.cat([x_t, ends], dim=1), t, context, fps, bypass_temporal=self.training and self.bypass_temporal)


def training_loss(schedule: Schedule, predict: Callable[[Tensor, Tensor], Tensor], given: Given, batch: Batch, *, seed: int,
                  offset_noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Loss of each sample [b] and its step t [b]; step and noise are functions of (seed, sample number)."""
    t = timesteps(seed, batch.numbers, schedule.num_steps).to(given.z0.device)
    noise = per_sample_noise(seed, batch.numbers, "noise", given.z0.shape[1:]).to(given.z0)
    if offset_noise:
        shape = (*given.z0.shape[1:3], 1, 1)
        noise = noise + offset_noise * per_sample_noise(seed, batch.numbers, "offset", shape).to(noise)
    return diffusion_loss(schedule, predict, given.z0, noise, t), t


@torch.no_grad()
def heldout_losses(schedule: Schedule, predict: Callable[[Tensor, Tensor], Tensor], given: Given, batch: Batch, *,
                   seed: int) -> dict[str, Tensor]:
    """Losses [b] at fixed steps with fixed noise, and their mean "loss": comparable between runs and resumes."""
    found = {}
    for quantile in HELDOUT_QUANTILES:
        step = int(quantile * schedule.num_steps)
        noise = per_sample_noise(seed, batch.numbers, f"heldout-{step}", given.z0.shape[1:]).to(given.z0)
        t = torch.full((len(given.z0),), step, device=given.z0.device)
        found[f"loss_t{step:03d}"] = diffusion_loss(schedule, predict, given.z0, noise, t)
    return {"loss": torch.stack(list(found.values())).mean(dim=0), **found}


def sample_latents(schedule: Schedule, predict: Callable[[Branch, Tensor, Tensor], Tensor], given: Given, seeds: list[int], *,
                   steps: int, guidance: Guidance = PREVIEW_GUIDANCE) -> Tensor:
    """DDIM latents [b, 4, t, h, w] as the paper samples: trailing steps, eta 1. predict(branch, x, t) is one guidance branch."""
    noise = seeded_noise(seeds, given.z0.shape[1:])

    def guided(x: Tensor, t: Tensor) -> Tensor:
        branches: Mapping[Branch, Tensor] = {branch: predict(branch, x, t) for branch in guidance.branches}
        return guidance.combine(branches)

    x_T = noise(START).to(given.z0)
    return sample(schedule, guided, x_T, steps=steps, spacing=Spacing.UNIFORM_TRAILING, eta=1.0, noise=noise)
