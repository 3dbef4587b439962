"""Builds every network by name and preset; a misspelt name, preset or option is told with the nearest one."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterator

import torch
from torch import nn

from pipeline.errors import UserError, nearest
from training.models.presets import preset_named

# Each module is imported when its network is built: the CLIP towers bring the whole of open_clip along.
NETWORKS = {
    "unet3d": ("training.models.unet3d", "UNet3D"),
    "dualref_autoencoder": ("training.models.autoencoder", "DualRefAutoencoder"),
    "resampler": ("training.models.resampler", "Resampler"),
    "sketch_encoder": ("training.models.sketch_encoder", "SketchEncoder"),
    "openclip_text": ("training.models.clip_encoders", "OpenClipText"),
    "openclip_image": ("training.models.clip_encoders", "OpenClipImage"),
    "discriminator": ("training.models.discriminator", "PatchDiscriminator"),
}


def build(name: str, *, preset: str = "tooncrafter_512", device: torch.device | str | None = None,
          seed: int | None = None, **overrides: object) -> nn.Module:
    """Returns a network with random weights; `overrides` replace the preset's settings by their constructor's names.

    device="meta" gives names and shapes without memory. With `seed` the weights depend on it alone and the global
    random state is left as it was; without, they come from that state. UserError names what is misspelt.
    """
    if name not in NETWORKS:
        raise UserError(f"{name} is no network", fix=_suggestion(name, list(NETWORKS)))
    settings = {**preset_named(preset).networks[name], **overrides}
    module_name, class_name = NETWORKS[name]
    network_class = getattr(importlib.import_module(module_name), class_name)
    known = [option for option in inspect.signature(network_class).parameters]
    for option in overrides:
        if option not in known:
            raise UserError(f"{name} has no option {option}", fix=_suggestion(option, known))
    with torch.device(device or "cpu"), _seeded(seed):
        network = network_class(**settings)
    assert isinstance(network, nn.Module)
    return network


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _suggestion(name: str, choices: list[str]) -> str:
    near = nearest(name, choices)
    return f"Did you mean {near}?" if near else f"There are: {', '.join(choices)}"
