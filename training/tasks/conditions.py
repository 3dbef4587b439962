"""What the frozen networks make of a batch: latents to diffuse, end frames, caption tokens and first-frame tokens.

ToonCrafter (arXiv 2405.17933) section 3.1 and DynamiCrafter's public training code: latents are samples of the posterior, the
two end latents are given on extra channels with zeros between them, the image condition is the first frame alone. Dropped
conditions are an empty caption and a mid-grey picture. Noise belongs to (seed, sample number), so no state is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.caches import FeatureCache
from training.models.autoencoder import LATENT_SCALE, DualRefAutoencoder, Posterior, References
from training.models.clip_encoders import OpenClipImage, OpenClipText
from training.models.kl_blocks import to_frames, to_video
from training.seeds import per_sample_noise


@dataclass(frozen=True, slots=True)
class Encoders:
    """The frozen networks before the UNet, and where their results are kept between epochs (None: nowhere)."""

    first_stage: DualRefAutoencoder
    text: OpenClipText | None             # None: a task without conditions
    image: OpenClipImage | None
    seed: int
    text_cache: FeatureCache | None = None
    latent_cache: FeatureCache | None = None

    def modules(self) -> dict[str, nn.Module]:
        named = {"dualref_autoencoder": self.first_stage, "openclip_text": self.text, "openclip_image": self.image}
        return {name: module for name, module in named.items() if module is not None}

    @torch.no_grad()
    def latents(self, batch: Batch) -> Tensor:
        """Scaled latents [b, 4, t, h, w] float32: a sample of each frame's posterior."""
        if self.latent_cache is None:
            moments = self._moments(batch.video)
        else:
            moments = self.latent_cache.get_or_compute(
                batch.windows, lambda row: self._moments(batch.video[row:row + 1])[0]).to(batch.video.device)
        mean, logvar = moments.chunk(2, dim=1)
        noise = per_sample_noise(self.seed, batch.numbers, "posterior", mean.shape[1:]).to(mean)
        return LATENT_SCALE * Posterior(mean, logvar).sample(noise)

    @torch.no_grad()
    def references(self, batch: Batch) -> References:
        """The encoder's features of the end frames, for the decoder; tuple of [b, C_i, 2, H_i, W_i]."""
        return self.first_stage.references(_as(self.first_stage, batch.video[:, :, [0, -1]]))

    @torch.no_grad()
    def caption_tokens(self, batch: Batch) -> Tensor:
        """Text features [b, 77, D] float32 of the batch's captions, the dropped ones empty."""
        return self.captions(batch.captions)

    @torch.no_grad()
    def captions(self, captions: tuple[str, ...]) -> Tensor:
        tower = self.text
        assert tower is not None
        if self.text_cache is None:
            return tower(captions).float()
        device = tower.model.positional_embedding.device
        return self.text_cache.get_or_compute(captions, lambda row: tower([captions[row]]).float()[0]).to(device)

    @torch.no_grad()
    def image_tokens(self, batch: Batch, *, dropped: bool = False) -> Tensor:
        """Tokens [b, 257, E] float32 of first frames; of a mid-grey picture where the image is dropped (or with `dropped`)."""
        assert self.image is not None
        first = batch.video[:, :, 0]
        keep = torch.zeros_like(batch.has_image) if dropped else batch.has_image
        return self.image(first * keep.view(-1, 1, 1, 1).to(first)).float()

    def _moments(self, video: Tensor) -> Tensor:
        """Mean and log-variance [b, 8, t, h, w] float32 of the posterior of every frame."""
        posterior = self.first_stage.encode(_as(self.first_stage, to_frames(video)))
        return to_video(torch.cat([posterior.mean, posterior.logvar], dim=1).float(), video.shape[2])


def end_latents(z0: Tensor) -> Tensor:
    """Condition on extra channels, [b, 4, t, h, w]: first and last latent in their places, zeros between."""
    ends = torch.zeros_like(z0)
    ends[:, :, 0], ends[:, :, -1] = z0[:, :, 0], z0[:, :, -1]
    return ends


def _as(module: nn.Module, pixels: Tensor) -> Tensor:
    """Pixels in the precision of a frozen module's weights."""
    return pixels.to(next(module.parameters()).dtype)
