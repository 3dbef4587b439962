"""The networks of a sampling and where each was read from: a whole public model, parts of own trainings, or random ones.

`networks.weights` gives all of them; `denoiser`, `first_stage` and `sketch` replace what a training has learnt anew. The table
of sources names files by their digest and never by their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.records import Json
from pipeline.weights import digest, is_embedded, load_into, read_tensors, resolve
from training.config import Precision, Preset
from training.embedded import seeded
from training.models import registry
from training.models.autoencoder import DualRefAutoencoder
from training.models.bundle import PREFIXES, part
from training.models.clip_encoders import OpenClipImage, OpenClipText
from training.models.first_stage_init import load_image_autoencoder, load_temporal_decoder
from training.models.resampler import Resampler
from training.models.sketch_encoder import SketchEncoder
from training.models.unet3d import UNet3D
from training.sampling.config import NetworksConfig

# Which option gives a network where it is set; all others come from networks.weights.
OPTIONS = {"unet3d": "denoiser", "resampler": "denoiser", "dualref_autoencoder": "first_stage", "openclip_text": "weights",
           "openclip_image": "weights", "sketch_encoder": "sketch"}
TINY = "embedded:tiny"

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a network's weights are. `path` and `sha256` are None for seeded random weights."""

    network: str
    option: str
    reference: str
    path: Path | None
    sha256: str | None

    def record(self) -> dict[str, Json]:
        file = self.path.name if self.path is not None else self.reference
        return {"network": self.network, "option": self.option, "file": file, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class SamplingNetworks:
    unet: UNet3D
    projector: Resampler
    first_stage: DualRefAutoencoder
    text: OpenClipText
    image: OpenClipImage
    sketch: SketchEncoder | None


def find_sources(config: NetworksConfig, *, with_sketches: bool) -> list[Source]:
    """Finds every file and reads its digest, but no weights; UserError where one is absent."""
    found = []
    for network, option in OPTIONS.items():
        if network == "sketch_encoder" and not with_sketches:
            continue
        reference = getattr(config, option)
        if reference is None and network == "sketch_encoder":
            raise UserError("networks.sketch has no value", "sketches are given", "Give the weights of a sketch encoder")
        if reference is None:
            option, reference = "weights", config.weights
        if is_embedded(reference):
            if reference == TINY and config.preset is not Preset.TINY:
                raise UserError(f"networks.{option}={reference} does not fit networks.preset={config.preset.value}",
                                "it stands for small networks", "Use networks=tiny, or embedded:random to measure speed")
            found.append(Source(network, option, reference, None, None))
        else:
            path = resolve(reference)
            found.append(Source(network, option, reference, path, digest(path)))
    return found


def load_networks(config: NetworksConfig, sources: list[Source], precision: Precision) -> SamplingNetworks:
    """The networks on the CPU, frozen, in the given precision; each file is read once. UserError where one does not fit."""
    files: dict[Path, dict[str, Tensor]] = {}
    dtype = torch.bfloat16 if precision is Precision.BF16 else torch.float32
    loaded: dict[str, nn.Module] = {}
    for source in sources:
        if source.path is None:
            module = seeded(config.preset, source.network).to(dtype)
        else:
            if source.path not in files:
                files[source.path] = read_tensors(source.path)
            module = _filled(config.preset, source, files[source.path], dtype)
        loaded[source.network] = module.eval().requires_grad_(False)
    sketch = loaded.get("sketch_encoder")
    return SamplingNetworks(
        _typed(loaded["unet3d"], UNet3D), _typed(loaded["resampler"], Resampler),
        _typed(loaded["dualref_autoencoder"], DualRefAutoencoder), _typed(loaded["openclip_text"], OpenClipText),
        _typed(loaded["openclip_image"], OpenClipImage), None if sketch is None else _typed(sketch, SketchEncoder))


def print_table(sources: list[Source], console: Console) -> None:
    """Shows what is loaded from where; random weights are named as such."""
    table = Table("network", "from", "file", "sha256", box=None, pad_edge=False)
    for source in sources:
        file = source.path.name if source.path is not None else f"{source.reference} (random weights)"
        table.add_row(source.network, f"networks.{source.option}", file, (source.sha256 or "-")[:12])
    console.print(table, highlight=False)
    if any(source.path is None for source in sources):
        console.print("Random weights draw nothing: this shows only that the path works.", highlight=False)


def _filled(preset: Preset, source: Source, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """A network with the weights of a file."""
    if source.option == "denoiser" and not any(name.startswith(PREFIXES[source.network]) for name in tensors):
        raise UserError(f"networks.denoiser={source.reference} holds no {source.network}",
                        f"none of its names begins with {PREFIXES[source.network]}",
                        "Give weights.safetensors of a rectification, or a whole model")
    own = part(tensors, source.network)
    is_video_decoder = any(".attn_refinement." in name for name in own)
    if source.network == "dualref_autoencoder" and not is_video_decoder:
        return _from_image_autoencoder(preset, source, own).to(dtype)
    module = registry.build(source.network, preset=preset.value, device="meta").to(dtype)
    load_into(module, own, source=source.reference)     # straight into the precision: a whole model is 10 GB
    return module


def _from_image_autoencoder(preset: Preset, source: Source, tensors: Mapping[str, Tensor]) -> DualRefAutoencoder:
    """A first stage without references: what it lacks is put to adding nothing."""
    first_stage = _typed(seeded(preset, source.network), DualRefAutoencoder)
    if any("time_stack" in name or "temporal_res_block" in name for name in tensors):
        load_temporal_decoder(first_stage, tensors, source=source.reference)
    else:               # nobody has trained it to do without the convolution that the video decoder skips
        load_image_autoencoder(first_stage, tensors, source=source.reference, fold_post_quant=True)
    return first_stage


def _typed(module: nn.Module, kind: type[Module]) -> Module:
    assert isinstance(module, kind)
    return module
