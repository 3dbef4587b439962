"""Networks with seeded random weights that need no file: stand-ins for checkpoints in tests, first looks and speed measurements.

A fresh UNet predicts zero and a random first stage gives latents of any size, so two things are put right for `tiny`: the UNet's
last convolution is drawn small instead of zero, so that a sketch encoder on it has something to steer, and the first stage is
scaled so that latents of drawn pictures have mean 0 and variance 1, as the noise schedule expects.
"""

from __future__ import annotations

import functools
import zlib

import torch
from torch import Tensor, nn

from training.config import Preset
from training.models import registry
from training.models.autoencoder import LATENT_SCALE, DualRefAutoencoder
from training.models.unet3d import UNet3D

SEED = 0
OUTPUT_DEVIATION = 0.02     # of the drawn last convolution; chosen here
PICTURES = 8                # that the latents' scale is measured on
SIDE_PX = 64


def seeded(preset: Preset, name: str) -> nn.Module:
    """A network of the registry with weights that depend on its name alone."""
    module = registry.build(name, preset=preset.value, seed=SEED + zlib.crc32(name.encode()) % 2**31)
    if preset is Preset.TINY and isinstance(module, UNet3D):
        _draw_output(module)
    if preset is Preset.TINY and isinstance(module, DualRefAutoencoder):
        _standardise_latents(module)
    return module


@torch.no_grad()
def _draw_output(unet: UNet3D) -> None:
    weight = unet.out[-1].weight
    assert isinstance(weight, Tensor)
    weight.copy_(OUTPUT_DEVIATION * torch.randn(weight.shape, generator=torch.Generator().manual_seed(SEED)))


@torch.no_grad()
def _standardise_latents(first_stage: DualRefAutoencoder) -> None:
    """Scales quant_conv so that LATENT_SCALE times the mean has mean 0 and variance 1, and the posterior is narrow."""
    means = first_stage.encode(_drawings()).mean
    channels = means.shape[1]
    shift, deviation = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    factor = 1 / (LATENT_SCALE * deviation)
    weight, bias = first_stage.quant_conv.weight, first_stage.quant_conv.bias
    assert bias is not None
    weight[:channels] *= factor.view(-1, 1, 1, 1)
    bias[:channels] = (bias[:channels] - shift) * factor
    weight[channels:] = 0.0
    bias[channels:] = -6.0      # a deviation of 0.05, about that of public first stages


@functools.cache
def _drawings() -> Tensor:
    """Flat discs on flat paper [n, 3, side, side] in [-1, 1]: what cartoons have in common."""
    generator = torch.Generator().manual_seed(SEED)
    y, x = torch.meshgrid(torch.arange(SIDE_PX), torch.arange(SIDE_PX), indexing="ij")
    pictures = []
    for _ in range(PICTURES):
        picture = torch.rand(3, 1, 1, generator=generator).expand(3, SIDE_PX, SIDE_PX).clone()
        for _ in range(6):
            centre_y, centre_x, radius = (SIDE_PX * torch.rand(3, generator=generator)).tolist()
            disc = (y - centre_y).square() + (x - centre_x).square() < (radius / 3) ** 2
            picture[:, disc] = torch.rand(3, 1, generator=generator)
        pictures.append(picture)
    return 2 * torch.stack(pictures) - 1
