"""Jobs and drawn key frames for the tests of sampling; everything is tiny and seeded."""

import functools

import numpy as np
import torch
from PIL import Image

from pipeline.config import SAMPLE, load
from training.config import Precision
from training.sampling.sampler import Clip, Key, Sampler
from training.sampling.weights import find_sources, load_networks

SMALL = ("networks=tiny", "size=128x64", "num_frames=8", "sampler.steps=2", "memory.precision=fp32", "device=cpu")


def make_job(*overrides):
    return load([*SMALL, *overrides], SAMPLE)


def drawing(seed=0, *, width=128, height=64):
    """A flat disc on flat paper, [height, width, 3] uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = rng.integers(0, 256, 3)
    pixels[(y - rng.uniform(0.3, 0.7) * height) ** 2 + (x - rng.uniform(0.2, 0.8) * width) ** 2 < (height / 4) ** 2] = (
        rng.integers(0, 256, 3))
    return pixels


def save_drawing(path, seed=0, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawing(seed, **size)).save(path)
    return path


def save_sketch(path, *, column=40, width=128, height=64, background=255):
    """One dark vertical stroke on light paper (or the reverse)."""
    pixels = np.full((height, width), background, np.uint8)
    if column is not None:
        pixels[:, column:column + 4] = 255 - background
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def fresh_networks():
    """What embedded:tiny stands for."""
    config = make_job().networks
    return load_networks(config, find_sources(config, with_sketches=True), Precision.FP32)


@functools.cache
def tiny_networks():
    """Tiny networks in which nothing is silent: what a fresh one has at zero is drawn. Shared: nobody may change them."""
    networks = fresh_networks()
    generator = torch.Generator().manual_seed(0)
    for module in (networks.unet, networks.sketch, networks.first_stage.decoder):
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 and ("time_mix_conv" not in name) and not parameter.any():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return networks


def make_sampler(*overrides, networks=None):
    return Sampler(networks or tiny_networks(), make_job(*overrides), torch.device("cpu"))


def make_key(seed, *, film_seed=0, index=0):
    pixels = torch.from_numpy(drawing(seed, width=64)).permute(2, 0, 1).float() / 127.5 - 1
    return Key(pixels, pixels, film_seed, index)


def make_clip(seed, *, num_frames=6, fps=10, prompt="a disc", hints=None, guided=None):
    return Clip(make_key(seed, film_seed=seed), make_key(seed + 100, film_seed=seed, index=1), num_frames, prompt, fps, seed,
                hints, guided)
