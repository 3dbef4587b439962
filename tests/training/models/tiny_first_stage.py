"""Small first stages for tests."""

import torch
from torch import nn

from training.models.autoencoder import DualRefAutoencoder

TINY = {
    "double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1, 2, 2],
    "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}


def make_autoencoder(*, seed=0, is_fresh=False):
    """A tiny autoencoder; all parameters random, or with `is_fresh` as constructed, new parts adding nothing."""
    torch.manual_seed(seed)
    autoencoder = DualRefAutoencoder(ddconfig=TINY).eval()
    if not is_fresh:
        randomise(autoencoder, seed)
    return autoencoder


def randomise(module: nn.Module, seed):
    """Fills the parameters that start at zero, so that no branch is silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            starts_silent = any(word in name for word in ("attn_refinement", "time_stack", "mix_factor", "time_mix_conv"))
            if starts_silent and "norm" not in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def make_clip(*, num_samples=2, num_frames=5, height=24, width=32, seed=1):
    """Pixels [b, 3, t, H, W] in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_samples, 3, num_frames, height, width, generator=generator) * 2 - 1


def make_latents(*, num_samples=2, num_frames=5, height=3, width=4, seed=2):
    """Unscaled latents [b, 4, t, h, w]."""
    return torch.randn(num_samples, 4, num_frames, height, width, generator=torch.Generator().manual_seed(seed))
