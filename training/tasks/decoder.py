"""The dual-reference 3D decoder learns to reconstruct clips from their latents and two end frames; the encoder is frozen.

ToonCrafter (arXiv 2405.17933) section 3.3: L1 + 0.1 LPIPS + adaptive hinge GAN (VQGAN, arXiv 2012.09841). The gradients of all
losses are taken on a detached copy of the reconstruction and sent through the decoder in one backward: exact in every ZeRO stage
and with accumulation, where the published formulation is not. The discriminator learns from `gan.disc_start` on, the decoder
listens to it from `gan.adv_start` on. Choices where sources are silent: the adaptive weight is each rank's own, per micro-batch;
the discriminator sees every frame; LPIPS and the discriminator work in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import OptimConfig, TrainJob
from training.data.batch import Batch
from training.engine import Engine
from training.models.autoencoder import LATENT_SCALE
from training.models.bundle import PREFIXES
from training.models.discriminator import PatchDiscriminator, adaptive_weight, hinge_d_loss, last_layer_gradient
from training.models.dualref_decoder import DualRefDecoder, LastLayer
from training.models.kl_blocks import to_frames, to_video
from training.params import ParamPlan
from training.tasks.conditions import Encoders
from training.tasks.flops import training_flops
from training.tasks.task import StepReport, Trained

DECODER, DISCRIMINATOR = "decoder", "discriminator"

Perceptual = Callable[[Tensor, Tensor], Tensor]     # pictures in [-1, 1], twice [n, 3, H, W] -> distances [n]


class Reconstruction(nn.Module):
    """The decoder with the switches of Table 4, as the engine calls it; keeps what its last convolution received."""

    def __init__(self, decoder: DualRefDecoder, *, use_references: bool, use_temporal: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.use_references, self.use_temporal = use_references, use_temporal
        self.last_input: Tensor | None = None
        decoder.conv_out.register_forward_pre_hook(self._keep)

    def forward(self, z: Tensor, num_frames: int, *references: Tensor) -> Tensor:
        """Unscaled latents [(b t), 4, h, w] and reference features to pictures [(b t), 3, H, W]."""
        return self.decoder(z, num_frames, references if self.use_references else None, skip_temporal=not self.use_temporal)

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.last_input = inputs[0].detach()


class Decoder:
    """Two engines, decoder and discriminator; the encoders and LPIPS are frozen outside them."""

    def __init__(self, job: TrainJob, encoders: Encoders, discriminator: PatchDiscriminator, perceptual: Perceptual) -> None:
        self.job, self.gan, self.encoders, self.perceptual = job, job.task.gan, encoders, perceptual
        self.last_layer = LastLayer(self.gan.last_layer.value)
        reconstruction = Reconstruction(encoders.first_stage.decoder, use_references=self.gan.use_references,
                                        use_temporal=self.gan.use_temporal)
        plan = ParamPlan.by_group("dualref_autoencoder", reconstruction, job.task.train_groups)
        judge = ParamPlan.by_group("discriminator", discriminator, ["discriminator"])
        optim = job.task.optim
        judge_optim = _discriminator_optim(optim, self.gan.disc_learning_rate)
        self.trained = {DECODER: Trained(reconstruction, plan, optim, expected=job.recipe_count),
                        DISCRIMINATOR: Trained(discriminator, judge, judge_optim, partition_weights=False)}
        first_stage = encoders.first_stage
        self.frozen = {"encoder": first_stage.encoder, "quant_conv": first_stage.quant_conv,
                       "post_quant_conv": first_stage.post_quant_conv}

    def active(self, step: int) -> tuple[str, ...]:
        """The decoder always; the discriminator from its start on."""
        return (DECODER, DISCRIMINATOR) if step >= self.gan.disc_start else (DECODER,)

    def backward(self, engines: Mapping[str, Engine], batch: Batch, step: int) -> StepReport:
        real = to_frames(batch.video)
        output = self._reconstruct(engines[DECODER], batch)
        leaf = output.detach().float().requires_grad_()

        l1 = F.l1_loss(leaf, real, reduction="none").flatten(1).mean(dim=1)
        lpips = self.perceptual(leaf, real).flatten()
        per_frame = l1 + self.gan.lpips_weight * lpips
        gradient, = torch.autograd.grad(per_frame.mean(), leaf)
        values = {"loss": per_frame.detach().mean(), "l1": l1.detach().mean(), "lpips": lpips.detach().mean()}
        if step >= self.gan.adv_start:
            adversarial, weight, generator_loss = self._adversarial(engines, leaf, gradient, batch.video.shape[2])
            gradient = gradient + weight * adversarial
            values |= {"gan_weight": weight, "gan_loss": generator_loss}
        engines[DECODER].backward((output.float() * gradient).sum())

        if DISCRIMINATOR in self.active(step):
            real_logits, fake_logits = engines[DISCRIMINATOR](real), engines[DISCRIMINATOR](leaf.detach())
            judge_loss = hinge_d_loss(real_logits, fake_logits)
            engines[DISCRIMINATOR].backward(judge_loss)
            values |= {"disc_loss": judge_loss.detach(), "logits_real": real_logits.detach().mean(),
                       "logits_fake": fake_logits.detach().mean()}
        return StepReport(values, per_frame.detach().unflatten(0, (len(batch.numbers), -1)).mean(dim=1), None)

    def _adversarial(self, engines: Mapping[str, Engine], leaf: Tensor, reconstruction_gradient: Tensor,
                     num_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient of the generator's loss on the reconstruction, its adaptive weight, and the loss; the judge only reads."""
        judge = engines[DISCRIMINATOR].module
        with reading_only(judge):
            loss = -judge(leaf).mean()
            gradient, = torch.autograd.grad(loss, leaf)
        net = engines[DECODER].module
        assert isinstance(net, Reconstruction) and net.last_input is not None
        with engines[DECODER].gathered(list(net.decoder.conv_out.parameters())):
            on_reconstruction, on_adversarial = (
                last_layer_gradient(net.decoder, net.last_input, part, self.last_layer, num_frames=num_frames,
                                    skip_temporal=not net.use_temporal)
                for part in (reconstruction_gradient, gradient))
        return gradient, adaptive_weight(on_reconstruction, on_adversarial, self.gan.disc_weight), loss.detach()

    def heldout(self, engines: Mapping[str, Engine], batch: Batch) -> dict[str, Tensor]:
        """L1, LPIPS and PSNR (dB, of pictures in [0, 1]) of each clip, and their training loss without the GAN."""
        with torch.no_grad():
            found = self._reconstruct(engines[DECODER], batch).float().clamp(-1, 1)
            real = to_frames(batch.video)
            per_frame = {"l1": F.l1_loss(found, real, reduction="none").flatten(1).mean(dim=1),
                         "lpips": self.perceptual(found, real).flatten(),
                         "psnr": -10 * (((found - real) / 2).square().flatten(1).mean(dim=1)).clamp(min=1e-10).log10()}
        values = {name: value.unflatten(0, (len(batch.numbers), -1)).mean(dim=1) for name, value in per_frame.items()}
        return {"loss": values["l1"] + self.gan.lpips_weight * values["lpips"], **values}

    @torch.no_grad()
    def preview(self, engines: Mapping[str, Engine], batch: Batch, ddim_steps: int) -> Tensor:
        """The clips, and below them their reconstructions: [b, 3, t, 2 H, W]."""
        found = self._reconstruct(engines[DECODER], batch).float().clamp(-1, 1)
        return torch.cat([batch.video, to_video(found, batch.video.shape[2])], dim=3)

    def export(self, weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The whole first stage, encoder included, under its keys in the public whole-model checkpoint."""
        prefix = PREFIXES["dualref_autoencoder"]
        first_stage = {name: tensor.detach().float().cpu() for name, tensor in self.encoders.first_stage.state_dict().items()
                       if not name.startswith("decoder.")}
        return {prefix + name: tensor for name, tensor in (first_stage | dict(weights[DECODER])).items()}

    def flops_per_clip(self) -> float:
        return training_flops(self.job)

    def _reconstruct(self, engine: Engine, batch: Batch) -> Tensor:
        """Pictures [(b t), 3, H, W] of a posterior sample of every frame, with the clip's own end frames as references."""
        z = to_frames(self.encoders.latents(batch) / LATENT_SCALE)
        if not (self.gan.use_references or self.gan.use_temporal):      # the ordinary image decoder has it before, spec 8.4
            with torch.no_grad():
                z = self.encoders.first_stage.post_quant_conv(z)
        references = self.encoders.references(batch) if self.gan.use_references else ()
        found: Tensor = engine(z, batch.video.shape[2], *references)
        return found


class reading_only:
    """Within it a module's parameters take no gradient; afterwards they are as they were."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)


def _discriminator_optim(optim: OptimConfig, learning_rate: float) -> OptimConfig:
    """The decoder's settings with a rate of its own; its weights are not averaged."""
    return OptimConfig(learning_rate=learning_rate, beta1=optim.beta1, beta2=optim.beta2, eps=optim.eps,
                       weight_decay=optim.weight_decay, grad_clip=optim.grad_clip, warmup_steps=optim.warmup_steps, ema_decay=0.0,
                       decay_at=optim.decay_at, decay_factor=optim.decay_factor)
