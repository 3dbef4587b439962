"""All networks of a training, with the weights it starts from; what was read is named by digest.

References are those of docs/weights.md. `embedded:tiny` stands for small seeded networks, `embedded:random` for any preset with
seeded random weights, which only a measurement of speed is good for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.weights import digest, is_embedded, load_into, read_tensors, resolve
from training.animeinterp.behaviour import Behaviour
from training.animeinterp.network import TINY, AnimeInterp, load_published, load_raft
from training.animeinterp.start import start_as_mean
from training.config import Checkpointing, ModelConfig, Precision, Preset, TaskName, TrainJob
from training.embedded import SEED, seeded
from training.metrics.lpips import Lpips, load_lpips, stand_in_lpips
from training.models import registry
from training.models.autoencoder import DualRefAutoencoder
from training.models.block import set_checkpointing
from training.models.bundle import PREFIXES, part
from training.models.clip_encoders import OpenClipImage, OpenClipText
from training.models.discriminator import PatchDiscriminator
from training.models.first_stage_init import load_image_autoencoder, load_temporal_decoder
from training.models.resampler import Resampler
from training.models.sketch_encoder import SketchEncoder
from training.models.unet3d import UNet3D

BASE = ("unet3d", "resampler", "dualref_autoencoder", "openclip_text", "openclip_image")
LPIPS_NET = "vgg"                       # the usual choice for a loss; the paper does not name it
STAND_IN_NET = "alex"                   # the cheapest: random features are good for nothing but a first look
LPIPS_HEADS = "lpips_vgg"               # as docs/weights.md names the file

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Networks:
    """What the job's task needs; the others are None. `sources` says what each was read from."""

    first_stage: DualRefAutoencoder
    unet: UNet3D | None = None
    projector: Resampler | None = None
    text: OpenClipText | None = None
    image: OpenClipImage | None = None
    sketch: SketchEncoder | None = None
    discriminator: PatchDiscriminator | None = None
    lpips: Lpips | None = None
    sources: dict[str, str] = field(default_factory=dict)


def load_networks(job: TrainJob, device: torch.device) -> Networks:
    """Builds the networks of the job's task on `device`, filled; UserError where weights are absent or do not fit."""
    model = job.model
    if model.preset is Preset.ANIMEINTERP:
        raise UserError(f"model=animeinterp does not fit task={job.task.name.value}", "it is the network of task=animeinterp",
                        "Use model=tooncrafter_512, or model=tiny for a first look")
    sources: dict[str, str] = {}
    wanted = [*BASE] if job.task.name is not TaskName.DECODER else ["dualref_autoencoder"]
    found = {name: module.to(device) for name, module in _base(model, wanted, sources).items()}
    if model.first_stage is not None:
        tensors, sources["dualref_autoencoder"] = _read(model.first_stage)
        _load_first_stage(found["dualref_autoencoder"], tensors, model.first_stage)
    if job.task.name is TaskName.SKETCH:
        found["sketch_encoder"] = _sketch_encoder(model, found["unet3d"], sources).to(device)
    if job.init is not None:
        _start_from(job.init, found, sources)
    networks = Networks(_typed(found, "dualref_autoencoder", DualRefAutoencoder), sources=sources)
    if job.task.name is TaskName.DECODER:
        judge = seeded(model.preset, "discriminator").to(device)
        assert isinstance(judge, PatchDiscriminator)
        networks.discriminator = judge
        networks.lpips, sources["lpips"] = _lpips(model.lpips)
        networks.lpips.to(device).eval().requires_grad_(False)
    else:
        networks.unet, networks.projector = _typed(found, "unet3d", UNet3D), _typed(found, "resampler", Resampler)
        networks.text = _typed(found, "openclip_text", OpenClipText)
        networks.image = _typed(found, "openclip_image", OpenClipImage)
        networks.sketch = found.get("sketch_encoder")
    _prepare(job, networks)
    return networks


def load_animeinterp(job: TrainJob, device: torch.device) -> AnimeInterp:
    """The interpolation network of a job on `device`, filled; UserError where weights are absent or do not fit.

    Two files fit as model.weights: those of the whole network, and RAFT's large model, whose flow the rest then learns to use.
    """
    model, chosen = job.model, job.task.interpolation
    if model.preset not in (Preset.ANIMEINTERP, Preset.TINY):
        raise UserError(f"model={model.preset.value} does not fit task=animeinterp", "it stands for other networks",
                        "Use model=animeinterp, or model=tiny for a first look")
    is_tiny = model.preset is Preset.TINY
    if model.weights is None and job.init is None:
        raise UserError("model.weights has no value", "the flow of model=animeinterp starts from RAFT, and nothing trains well "
                        "from random flow", "Give the weights of RAFT or AnimeInterp as model.weights, those of another run as "
                        "init, or model.weights=embedded:random")
    if model.weights == "embedded:tiny" and not is_tiny:
        raise UserError(f"model.weights=embedded:tiny does not fit model.preset={model.preset.value}",
                        "it stands for small networks", "Use model=tiny, or embedded:random to measure speed")
    if model.compile or model.checkpointing is not Checkpointing.NONE:
        _log.warning("event=ignored model.compile=%s model.checkpointing=%s; they have no effect with task=animeinterp",
                     model.compile, model.checkpointing.value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = AnimeInterp(behaviour=Behaviour(chosen.behaviour.value), splatting=Behaviour(chosen.splatting.value),
                              sizes=TINY if is_tiny else None)
    if model.weights == "embedded:tiny":
        start_as_mean(network)
    if model.weights is not None and not is_embedded(model.weights):
        tensors, _ = _read(model.weights)
        load = load_published if any(name.startswith("synnet.") for name in tensors) else load_raft
        load(network, tensors, source=model.weights)
    if job.init is not None:
        tensors, _ = _read(job.init)
        if not any(name.startswith("synnet.") for name in tensors):
            raise UserError(f"init={job.init} holds nothing for this task", "it lacks the synthesis network",
                            "Give weights.safetensors of a checkpoint of task=animeinterp")
        load_published(network, tensors, source=job.init)
    return network.to(device)


def _base(model: ModelConfig, wanted: list[str], sources: dict[str, str]) -> dict[str, Any]:
    """The networks of the whole-model checkpoint."""
    if model.weights is None:
        raise UserError("model.weights has no value", f"model={model.preset.value} starts from a whole model",
                        "Give a reference of docs/weights.md, or embedded:random")
    if is_embedded(model.weights):
        if model.weights == "embedded:tiny" and model.preset is not Preset.TINY:
            raise UserError(f"model.weights=embedded:tiny does not fit model.preset={model.preset.value}",
                            "it stands for small networks", "Use model=tiny, or embedded:random to measure speed")
        sources.update(dict.fromkeys(wanted, model.weights))
        return {name: seeded(model.preset, name) for name in wanted}
    tensors, source = _read(model.weights)
    found: dict[str, Any] = {}
    for name in wanted:
        if name == "dualref_autoencoder":      # DynamiCrafter's is an image autoencoder; what it lacks is put to adding nothing
            found[name] = seeded(model.preset, name)
            _load_first_stage(found[name], tensors, model.weights)
        else:
            found[name] = registry.build(name, preset=model.preset.value, device="meta")
            load_into(found[name], part(tensors, name), source=model.weights)
        sources[name] = source
    return found


def _load_first_stage(first_stage: DualRefAutoencoder, tensors: Mapping[str, Tensor], reference: str) -> None:
    """Three files fit: a dual-reference first stage, an image autoencoder, a temporal decoder (which keeps our encoder)."""
    own = part(tensors, "dualref_autoencoder")
    if any(".attn_refinement." in name for name in own):
        load_into(first_stage, own, source=reference)
    elif any("time_stack" in name or "temporal_res_block" in name for name in own):
        load_temporal_decoder(first_stage, own, source=reference)
    else:
        load_image_autoencoder(first_stage, own, source=reference)


def _sketch_encoder(model: ModelConfig, unet: UNet3D, sources: dict[str, str]) -> SketchEncoder:
    encoder = seeded(model.preset, "sketch_encoder")
    assert isinstance(encoder, SketchEncoder)
    if model.sketch is None:
        encoder.load_encoder_half(unet.state_dict())        # as ControlNet starts: a copy that adds nothing
        sources["sketch_encoder"] = "copy of the UNet's encoder half"
    else:
        tensors, sources["sketch_encoder"] = _read(model.sketch)
        load_into(encoder, tensors, source=model.sketch)
    return encoder


def _start_from(init: str, found: Mapping[str, nn.Module], sources: dict[str, str]) -> None:
    """Loads the parts of the job's networks that the weights of another run hold; UserError if it holds none."""
    tensors, source = _read(init)
    loaded = []
    for name, module in found.items():
        prefix = PREFIXES.get(name, "")
        own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)} if prefix else {}
        if name == "sketch_encoder" and any(key.startswith("input_hint_block.") for key in tensors):
            own = tensors
        if own:
            load_into(module, own, source=init)
            sources[name] = source
            loaded.append(name)
    if not loaded:
        raise UserError(f"init={init} holds nothing for this task", f"its networks are {', '.join(found)}",
                        "Give weights.safetensors of a checkpoint of the right task")


def _lpips(reference: str | None) -> tuple[Lpips, str]:
    if reference is None:
        return stand_in_lpips(STAND_IN_NET)
    return load_lpips(LPIPS_NET, backbone=reference, heads=LPIPS_HEADS)


def _prepare(job: TrainJob, networks: Networks) -> None:
    """Freezes what no task trains, in the precision of frozen networks, and sets what is computed again in the backward pass."""
    dtype = torch.bfloat16 if job.model.frozen_precision is Precision.BF16 else torch.float32
    towers: list[nn.Module] = [each for each in (networks.text, networks.image) if each is not None]
    is_decoder = job.task.name is TaskName.DECODER
    first_stage = networks.first_stage.requires_grad_(False).eval()
    for module in [*towers, *([first_stage.encoder, first_stage.quant_conv] if is_decoder else [first_stage])]:
        module.to(dtype).requires_grad_(False).eval()
    if is_decoder:
        first_stage.post_quant_conv.to(dtype)
        first_stage.decoder.use_checkpoint = job.model.checkpointing.value != "none"
    if networks.unet is not None and networks.projector is not None:
        set_checkpointing(networks.unet, job.model.checkpointing.value)
        if job.task.name is TaskName.SKETCH:
            networks.unet.to(dtype)
            networks.projector.to(dtype)
    if networks.sketch is not None:
        set_checkpointing(networks.sketch, job.model.checkpointing.value)
    if job.model.compile:
        for module in (networks.unet, networks.sketch, first_stage.decoder if is_decoder else None):
            if module is not None:
                module.compile()


def _read(reference: str) -> tuple[dict[str, Tensor], str]:
    path: Path = resolve(reference)
    return read_tensors(path), f"{path.name} sha256:{digest(path)}"


def _typed(found: Mapping[str, Any], name: str, kind: Callable[..., Any]) -> Any:
    assert isinstance(found[name], kind)        # type: ignore[arg-type]
    return found[name]
