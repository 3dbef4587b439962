"""Our own networks as systems: frames drawn between key frames, and frames reconstructed by the first stage alone.

Clips are drawn one by one with training.sampling's sampler, each with a seed of its own that follows from the job's seed and the
clip's key, so a clip is the same in any run and on any rank. Sizes that the UNet cannot halve three times are extended by
repeating the border to multiples of 64 and cut back. Of a clip with several given frames each stretch is drawn alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import Json, to_plain
from pipeline.weights import read_tensors, resolve
from training.evaluation.config import EvaluateJob
from training.evaluation.samples import EvalSample
from training.models.autoencoder import LATENT_SCALE
from training.models.bundle import PREFIXES
from training.sampling.config import (
    EmbeddedPicture,
    FramingConfig,
    LineColour,
    NetworksConfig,
    OutputConfig,
    Pad,
    SampleJob,
    SketchControlConfig,
)
from training.sampling.sampler import Clip, Key, Sampler
from training.sampling.weights import OPTIONS, find_sources, load_networks

SIDE_MULTIPLE_PX = 64
VERSION = 1                     # raise when the same weights give other frames


class Drawn:
    """Frames by our networks; they are loaded with the first clip, and `release` gives their memory back."""

    def __init__(self, name: str, job: EvaluateJob, networks: NetworksConfig, device: torch.device, *,
                 reconstructs: bool) -> None:
        """UserError where a file of weights is absent."""
        self.name, self._device, self._reconstructs = name, device, reconstructs
        self._networks, self._job = networks, _sample_job(job, networks)
        sources = find_sources(networks, with_sketches=False)
        self._sources = sources
        used = [source for source in sources if not reconstructs or source.network == "dualref_autoencoder"]
        self.is_random = any(source.path is None for source in used)
        sampler = to_plain(job.sampler)
        assert isinstance(sampler, dict)
        settings: dict[str, Json] = {"second_decode": job.sampler.second_decode} if reconstructs else sampler
        self.identity: dict[str, Json] = {
            "system": "reconstruct" if reconstructs else "tooncrafter", "version": VERSION, "preset": networks.preset.value,
            "weights": {source.network: source.sha256 or source.reference for source in used}, "sampler": settings,
            "memory": {"precision": job.memory.precision.value, "tile_px": job.memory.tile_px,
                       "frames_per_chunk": job.memory.frames_per_chunk},
            "seed": job.seed, "border": f"repeated to multiples of {SIDE_MULTIPLE_PX}"}
        self._sampler: Sampler | None = None

    def make(self, sample: EvalSample) -> Tensor:
        """Returns [t, 3, h, w] in [0, 1]; given frames are remade by the decoder, as sampling does."""
        if self._sampler is None:
            networks = load_networks(self._networks, self._sources, self._job.memory.precision)
            self._sampler = Sampler(networks, self._job, self._device)
        height, width = sample.truth.shape[2:]
        missing = (0, -width % SIDE_MULTIPLE_PX, 0, -height % SIDE_MULTIPLE_PX)
        pixels = F.pad(2 * sample.truth - 1, missing, mode="replicate")
        make = self._reconstructed if self._reconstructs else self._between
        made = sample.truth.clone()
        for first, last in sample.spans:
            span = make(self._sampler, sample, pixels, first, last)[..., :height, :width]
            made[first:last + 1] = ((span.clamp(-1, 1) + 1) / 2).movedim(0, 1)
        return made

    def release(self) -> None:
        """Forgets the networks; the next clip loads them again."""
        self._sampler = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _between(self, sampler: Sampler, sample: EvalSample, pixels: Tensor, first: int, last: int) -> Tensor:
        """[3, t, H, W] in [-1, 1] drawn from the two given frames."""
        clip = self._clip(sample, pixels, first, last)
        return sampler.decode(sampler.draw([clip])[0], clip)

    @torch.no_grad()
    def _reconstructed(self, sampler: Sampler, sample: EvalSample, pixels: Tensor, first: int, last: int) -> Tensor:
        """[3, t, H, W] in [-1, 1]: every frame's mean latent, decoded with the given frames as references."""
        stage = sampler.networks.first_stage.to(self._device)
        dtype = next(stage.parameters()).dtype
        latents = torch.stack([stage.encode(frame[None].to(self._device, dtype)).mode()[0].float().cpu()
                               for frame in pixels[first:last + 1]], dim=1)
        return sampler.decode(LATENT_SCALE * latents, self._clip(sample, pixels, first, last))

    def _clip(self, sample: EvalSample, pixels: Tensor, first: int, last: int) -> Clip:
        seed = int(content_key(seed=self._job.seed, clip=sample.key)[:8], 16) >> 1
        ends = [Key(pixels[index], pixels[index], seed, index) for index in (first, last)]
        return Clip(ends[0], ends[1], last - first + 1, sample.caption, sample.fps, seed + first)


def draw_system(name: str, job: EvaluateJob, device: torch.device, *, trained: str | None = None) -> Drawn:
    """Frames drawn by `networks`; `trained` is a training's file, which replaces those networks that it holds."""
    networks = job.networks if trained is None else _replaced(job.networks, name, trained)
    return Drawn(name, job, networks, device, reconstructs=False)


def reconstruct_system(name: str, job: EvaluateJob, device: torch.device, *, first_stage: str | None = None) -> Drawn:
    """Frames of the truth through the first stage and back."""
    networks = job.networks if first_stage is None else replace(job.networks, first_stage=first_stage)
    return Drawn(name, job, networks, device, reconstructs=True)


def _replaced(networks: NetworksConfig, name: str, reference: str) -> NetworksConfig:
    """The networks with those of a training in their place: whichever of UNet, projector and first stage the file holds."""
    names = _names(resolve(reference))
    options = {option for network, option in OPTIONS.items() if option in ("denoiser", "first_stage")
               and any(found.startswith(PREFIXES[network]) for found in names)}
    if not options:
        raise UserError(f"checkpoints has {name}:{reference}, which holds neither a UNet nor a first stage",
                        f"none of its {len(names)} names begins as theirs do", "Give the weights.safetensors of a training")
    return replace(networks, denoiser=reference if "denoiser" in options else networks.denoiser,
                   first_stage=reference if "first_stage" in options else networks.first_stage)


def _names(path: Path) -> list[str]:
    if path.suffix != ".safetensors":
        return list(read_tensors(path))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or incomplete", str(error), "Copy it again") from error


def _sample_job(job: EvaluateJob, networks: NetworksConfig) -> SampleJob:
    """What the sampler is told; pictures, sizes and prompts come with each clip."""
    return SampleJob(
        prompt="", fps=1, num_frames=job.num_frames, size="auto", seed=job.seed, out=job.out, device=job.device, ranks=1,
        networks=networks, sampler=job.sampler, memory=job.memory,
        framing=FramingConfig(pad=Pad.NONE, embedded=EmbeddedPicture.CROPPED),
        sketch=SketchControlConfig(sheet_frames=[], lines=LineColour.DARK, invert=False, scale=1.0, zero_gate=False),
        output=OutputConfig(formats=["png"], fps=8, crf=10, gray=False, sheet_columns=8, sheet_cell_px=256))
