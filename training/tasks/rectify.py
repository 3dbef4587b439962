"""Toon rectification: tune spatial layers and the image-context projector, keep motion as it is.

ToonCrafter (arXiv 2405.17933) section 3.2 and Table 3, whose rows are presets: what trains is task.train_groups, row III also
leaves the temporal layers out while training. Dropout stays active in frozen layers too, as in DynamiCrafter's public training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.config import TrainJob
from training.data.batch import Batch
from training.diffusion.guidance import Branch
from training.diffusion.schedule import Schedule
from training.engine import Engine
from training.lora import add_lora, exported
from training.models.bundle import PREFIXES
from training.models.decoding import decode_video
from training.params import ParamPlan
from training.tasks.conditions import Encoders
from training.tasks.denoiser import Denoiser, Given, heldout_losses, sample_latents, training_loss
from training.tasks.flops import training_flops
from training.tasks.task import StepReport, Trained

ENGINE = "denoiser"


class Rectify:
    """One engine, the UNet with its projector; the encoders are frozen outside it."""

    def __init__(self, job: TrainJob, denoiser: Denoiser, encoders: Encoders, schedule: Schedule) -> None:
        self.job, self.encoders, self.schedule = job, encoders, schedule
        train = job.task.train_groups
        if job.task.lora.rank:
            add_lora(denoiser.unet, job.task.lora)
        unet = ParamPlan.by_group("unet3d", denoiser.unet, [group for group in train if group != "projector"], prefix="unet.")
        projector = ParamPlan.by_group("resampler", denoiser.projector, [group for group in train if group == "projector"],
                                       prefix="projector.")
        self.trained = {ENGINE: Trained(denoiser, unet.joined(projector), job.task.optim, expected=job.recipe_count)}
        self.frozen = encoders.modules()

    def active(self, step: int) -> tuple[str, ...]:
        return (ENGINE,)

    def backward(self, engines: Mapping[str, Engine], batch: Batch, step: int) -> StepReport:
        engine = engines[ENGINE]
        given = Given.of(self.encoders, batch)
        losses, t = training_loss(self.schedule, lambda x_t, t: engine(x_t, t, *given.inputs()), given, batch,
                                  seed=self.job.seed, offset_noise=self.job.task.offset_noise)
        engine.backward(losses.mean())
        return StepReport({"loss": losses.detach().mean()}, losses.detach(), t)

    def heldout(self, engines: Mapping[str, Engine], batch: Batch) -> dict[str, Tensor]:
        engine = engines[ENGINE]
        given = Given.of(self.encoders, batch)
        return heldout_losses(self.schedule, lambda x_t, t: engine(x_t, t, *given.inputs()), given, batch, seed=self.job.seed)

    @torch.no_grad()
    def preview(self, engines: Mapping[str, Engine], batch: Batch, ddim_steps: int) -> Tensor:
        """The clips, and below them what is sampled between their end frames: [b, 3, t, 2 H, W]."""
        engine = engines[ENGINE]
        given = Given.of(self.encoders, batch)
        empty = self.encoders.captions(("",) * len(batch.captions))
        grey = self.encoders.image_tokens(batch, dropped=True)
        conditions = {Branch.FULL: (given.text, given.image), Branch.UNCOND: (empty, grey)}

        def predict(branch: Branch, x: Tensor, t: Tensor) -> Tensor:
            text, image = conditions[branch]
            return engine(x, t, given.ends, text, image, given.fps)

        latents = sample_latents(self.schedule, predict, given, [int(n) for n in batch.numbers], steps=ddim_steps)
        return torch.cat([batch.video, decoded(self.encoders, latents, batch)], dim=3)

    def export(self, weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """UNet and projector under their keys in the public whole-model checkpoint."""
        lora = self.job.task.lora
        return export_denoiser(exported(weights[ENGINE], lora) if lora.rank else weights[ENGINE])

    def flops_per_clip(self) -> float:
        return training_flops(self.job)


def decoded(encoders: Encoders, latents: Tensor, batch: Batch) -> Tensor:
    """Pictures [b, 3, t, H, W] of sampled latents, with the batch's end frames as references."""
    stage = encoders.first_stage
    dtype = next(stage.parameters()).dtype
    return decode_video(stage, latents.to(dtype), encoders.references(batch)).float().clamp(-1, 1)


def export_denoiser(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a Denoiser as the public whole-model checkpoint has them."""
    upstream = {"unet": PREFIXES["unet3d"], "projector": PREFIXES["resampler"]}
    split = ((*name.partition(".")[::2], tensor) for name, tensor in weights.items())
    return {upstream[network] + name: tensor for network, name, tensor in split}
