"""Small UNets and sketch encoders for tests, and the full-size layout without memory for weights."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

from training.models.sketch_encoder import SketchEncoder
from training.models.unet3d import UNet3D

SPEC_DIR = Path(os.environ.get("SPEC_DIR", Path(__file__).parents[3].parent / "shared" / "spec"))
TRUNK = {"model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_resolutions": (1, 2),
         "num_head_channels": 8, "context_dim": 32}
PUBLIC_TRUNK = {"model_channels": 320, "channel_mult": (1, 2, 4, 4), "num_res_blocks": 2, "attention_resolutions": (1, 2, 4),
                "num_head_channels": 64, "context_dim": 1024}
BATCH, NUM_FRAMES, HEIGHT, WIDTH = 2, 3, 4, 6


def tiny_unet(**overrides):
    torch.manual_seed(0)
    return UNet3D(in_channels=8, out_channels=4, **{**TRUNK, **overrides}).eval()


def tiny_sketch_encoder(**overrides):
    torch.manual_seed(1)
    return SketchEncoder(**{**TRUNK, **overrides}).eval()


def awake(module, names=lambda name: True):
    """Gives the named parameters random values of useful size, so that no branch is silent; returns the module."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in module.named_parameters():
        if names(name):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.data = 0.1 * noise + ("norm" in name and name.endswith("weight"))
            else:
                parameter.data = noise / math.sqrt(parameter[0].numel())
    return module


def inputs(num_frames=NUM_FRAMES, num_tokens=None, batch=BATCH):
    """x, timesteps, context, fs; by default a context with image tokens per frame."""
    generator = torch.Generator().manual_seed(3)
    num_tokens = 77 + 16 * num_frames if num_tokens is None else num_tokens
    x = torch.randn(batch, 8, num_frames, HEIGHT, WIDTH, generator=generator)
    context = torch.randn(batch, num_tokens, TRUNK["context_dim"], generator=generator)
    return x, torch.tensor([999, 17, 500])[:batch], context, torch.tensor([24, 5, 8])[:batch]


def public_unet():
    with torch.device("meta"):
        return UNet3D(in_channels=8, out_channels=4, **PUBLIC_TRUNK)


def public_sketch_encoder():
    with torch.device("meta"):
        return SketchEncoder(**PUBLIC_TRUNK)


def listed_shapes(name):
    """Key -> shape as listed for the public weights; skips where the list is missing."""
    path = SPEC_DIR / "state_dict" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no list of the public keys {path.name}: set SPEC_DIR to its folder's parent")
    return {key: tuple(entry["shape"]) for key, entry in json.loads(path.read_text()).items()}


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def silent_parts(module):
    """The submodules whose parameters are all zero."""
    return {name for name, part in module.named_modules()
            if list(part.parameters()) and not any(parameter.any() for parameter in part.parameters())}


def relative_error(found, expected):
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()
