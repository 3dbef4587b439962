"""Sparse sketch guidance: a frame-independent encoder of sketches learns to steer the frozen, rectified UNet.

ToonCrafter (arXiv 2405.17933) section 3.4: F_i = S(s_i, z_i, t), added to the skips of the UNet. The UNet stays outside the
engine, its encoder half runs without a graph (as ControlNet's public training does) and without dropout, so that the first step,
when S still adds nothing, has exactly the loss of the base model. ZeroGate, the paper's baseline, trains with sketches on all
frames and multiplies the residuals of unguided frames by zero when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.config import TrainJob
from training.data.batch import Batch
from training.diffusion.guidance import Branch
from training.diffusion.schedule import Schedule
from training.engine import Engine
from training.models.kl_blocks import to_frames
from training.models.sketch_encoder import SketchContext, SketchEncoder, sketch_context
from training.params import ParamPlan
from training.tasks.conditions import Encoders
from training.tasks.denoiser import Denoiser, Given, heldout_losses, sample_latents, training_loss
from training.tasks.flops import training_flops
from training.tasks.rectify import decoded
from training.tasks.task import StepReport, Trained

ENGINE = "sketch_encoder"


class Sketch:
    """One engine, the sketch encoder; UNet, projector and encoders are frozen outside it."""

    def __init__(self, job: TrainJob, sketch_encoder: SketchEncoder, denoiser: Denoiser, encoders: Encoders,
                 schedule: Schedule) -> None:
        self.job, self.denoiser, self.encoders, self.schedule = job, denoiser.eval().requires_grad_(False), encoders, schedule
        self.choice = SketchContext(job.task.sketch.context.value)
        plan = ParamPlan.by_group("sketch_encoder", sketch_encoder, job.task.train_groups)
        self.trained = {ENGINE: Trained(sketch_encoder, plan, job.task.optim, expected=job.recipe_count)}
        self.frozen: dict[str, nn.Module] = {"denoiser": denoiser, **encoders.modules()}

    def active(self, step: int) -> tuple[str, ...]:
        return (ENGINE,)

    def backward(self, engines: Mapping[str, Engine], batch: Batch, step: int) -> StepReport:
        engine = engines[ENGINE]
        given = Given.of(self.encoders, batch)
        losses, t = training_loss(self.schedule, lambda x_t, t: self.predict(engine, batch, given, x_t, t), given, batch,
                                  seed=self.job.seed, offset_noise=self.job.task.offset_noise)
        engine.backward(losses.mean())
        return StepReport({"loss": losses.detach().mean()}, losses.detach(), t)

    def predict(self, engine: Engine, batch: Batch, given: Given, x_t: Tensor, t: Tensor) -> Tensor:
        """The frozen UNet's v with the residuals of the batch's sketches; gradients reach the sketch encoder alone."""
        num_frames = x_t.shape[2]
        unet = self.denoiser.unet
        with torch.no_grad():
            context = self.denoiser.context(given.text, given.image, num_frames)
            state = unet.encode(torch.cat([x_t, given.ends], dim=1), t, context, given.fps)
        return unet.decode(state, self.residuals(engine, batch, context, x_t, t))

    def residuals(self, engine: Engine, batch: Batch, context: Tensor, x_t: Tensor, t: Tensor) -> Sequence[Tensor]:
        """One tensor per skip and the middle's last, folded; gated to the guided frames by ZeroGate outside training."""
        assert batch.sketches is not None and batch.guided is not None, "the data of task=sketch has sketches"
        num_frames = x_t.shape[2]
        found: Sequence[Tensor] = engine(to_frames(x_t), to_frames(batch.sketches), t.repeat_interleave(num_frames),
                                         sketch_context(context, num_frames, self.choice))
        if self.job.task.sketch.zero_gate and not engine.module.training:
            gate = batch.guided.flatten().view(-1, 1, 1, 1)
            found = [residual * gate.to(residual) for residual in found]
        return found

    def heldout(self, engines: Mapping[str, Engine], batch: Batch) -> dict[str, Tensor]:
        engine = engines[ENGINE]
        given = Given.of(self.encoders, batch)
        return heldout_losses(self.schedule, lambda x_t, t: self.predict(engine, batch, given, x_t, t), given, batch,
                              seed=self.job.seed)

    @torch.no_grad()
    def preview(self, engines: Mapping[str, Engine], batch: Batch, ddim_steps: int) -> Tensor:
        """The clips, their sketches and what is sampled with them, below each other: [b, 3, t, 3 H, W]."""
        assert batch.sketches is not None
        engine = engines[ENGINE]
        given = Given.of(self.encoders, batch)
        empty = self.encoders.captions(("",) * len(batch.captions))
        grey = self.encoders.image_tokens(batch, dropped=True)
        conditions = {Branch.FULL: given, Branch.UNCOND: Given(given.z0, given.ends, empty, grey, given.fps)}
        latents = sample_latents(self.schedule, lambda branch, x, t: self.predict(engine, batch, conditions[branch], x, t), given,
                                 [int(n) for n in batch.numbers], steps=ddim_steps)
        strokes = (1 - 2 * batch.sketches).expand(-1, 3, -1, -1, -1)    # dark on white, as they are drawn
        return torch.cat([batch.video, strokes, decoded(self.encoders, latents, batch)], dim=3)

    def export(self, weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The sketch encoder under the keys of the public sketch_encoder.ckpt."""
        return dict(weights[ENGINE])

    def flops_per_clip(self) -> float:
        return training_flops(self.job)
