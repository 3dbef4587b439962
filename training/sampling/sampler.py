"""Clips between two key frames: conditions, DDIM with guidance and sketches, decoding with both key frames as references.

ToonCrafter (arXiv 2405.17933) and its public sampler (spec 6). Every random number belongs to a seed: the noise of the
latents to the clip's, that of a key frame's posterior to the film's seed and the key frame's place, so that neighbouring clips
see the same latent. Whatever is not the denoising itself is computed clip by clip; a clip is the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from training.diffusion import ddim
from training.diffusion.guidance import Branch, Guidance
from training.diffusion.schedule import Schedule, make_schedule
from training.models.autoencoder import LATENT_SCALE
from training.models.decoding import decode_video
from training.models.kl_blocks import to_frames
from training.models.presets import preset_info
from training.models.sketch_encoder import SketchContext, sketch_context
from training.sampling.config import SampleJob
from training.sampling.weights import SamplingNetworks
from training.seeds import torch_generator
from training.tasks.denoiser import Denoiser

RECONSTRUCTION_FRAMES = 2     # a key frame alone is decoded as a still of two: first and last stay different places


@dataclass(frozen=True, eq=False, slots=True)
class Key:
    """A key frame: `pixels` [3, H, W] as the film has it, `shown` [3, H', W'] to the image encoder; both in [-1, 1]."""

    pixels: Tensor
    shown: Tensor
    film_seed: int
    index: int                # place among the film's key frames


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """What is asked for between two key frames."""

    first: Key
    last: Key
    num_frames: int
    prompt: str
    fps: int
    seed: int
    hints: Tensor | None = None         # [1, t, H, W] in [0, 1]; None: the sketch encoder has no part in it
    guided: Tensor | None = None        # [t] bool: frames with a sketch

    @property
    def ends(self) -> Tensor:
        """[1, 3, 2, H, W]."""
        return torch.stack([self.first.pixels, self.last.pixels], dim=1)[None]


@dataclass(frozen=True, eq=False, slots=True)
class _Given:
    """Conditions of a batch of clips, on the device."""

    ends: Tensor                         # [b, 4, t, h, w]
    context: dict[Branch, Tensor]        # each [b, 77 + 16 t, D]
    fps: Tensor                          # [b]
    hints: Tensor | None                 # [(b t), 1, H, W]
    gate: Tensor | None                  # [(b t), 1, 1, 1]; None: residuals of all frames count


class Sampler:
    """Networks with the settings of a job; `device` is where they work, and with `memory.offload` only while they do."""

    def __init__(self, networks: SamplingNetworks, job: SampleJob, device: torch.device) -> None:
        self.networks, self.job, self.device = networks, job, device
        self.schedule: Schedule = make_schedule(**asdict(preset_info(job.networks.preset.value).schedule))
        settings = job.sampler
        self.guidance = Guidance(settings.guidance, settings.guidance_rescale, settings.image_guidance)
        self.denoiser = Denoiser(networks.unet, networks.projector)
        networks.first_stage.decoder.attention_frames_per_slice = job.memory.attention_frames or None

    @property
    def num_steps(self) -> int:
        """Passes of the sampler; `uniform` spacing may make more of them than `sampler.steps`."""
        return len(ddim.timesteps(self.schedule, self.job.sampler.steps, self.job.sampler.spacing.value))

    @torch.no_grad()
    def draw(self, clips: Sequence[Clip], on_step: Callable[[], None] = lambda: None) -> Tensor:
        """Scaled latents [b, 4, t, h, w] float32 on the CPU; the clips have one length, and all or none of them hints."""
        settings = self.job.sampler
        given, z_shape = self._conditions(clips)
        noise = ddim.seeded_noise([clip.seed for clip in clips], z_shape)
        with self._working(self.denoiser, self.networks.sketch):
            latents = ddim.sample(
                self.schedule, lambda x, t: self.guidance.combine(
                    {branch: self._predict(given, branch, x, t) for branch in self.guidance.branches}),
                noise(ddim.START).to(self.device), steps=settings.steps, spacing=settings.spacing.value, eta=settings.eta,
                noise=noise, temperature=settings.temperature, finish_rescale=settings.finish_rescale,
                on_step=lambda index, x, x0: on_step())
        return latents.cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor, clip: Clip) -> Tensor:
        """Pictures [3, t, H, W] float32 in [-1, 1] on the CPU of one clip's latents [4, t, h, w]."""
        memory, stage = self.job.memory, self.networks.first_stage
        with self._working(stage):
            dtype = next(stage.parameters()).dtype
            references = stage.references(clip.ends.to(self.device, dtype))
            pixels = decode_video(stage, latents[None].to(self.device, dtype), references, tile=memory.tile_px // 8 or None,
                                  frames_per_chunk=memory.frames_per_chunk or None,
                                  second_decode=self.job.sampler.second_decode)
            return pixels[0].float().clamp(-1, 1).cpu()

    @torch.no_grad()
    def reconstruct(self, key: Key) -> Tensor:
        """The key frame as the first stage gives it back, [3, H, W] in [-1, 1]: of its own latent, referring to itself."""
        still = Clip(key, key, RECONSTRUCTION_FRAMES, "", 1, 0)
        with self._working(self.networks.first_stage):
            z = self._latent(key)
        return self.decode(z[:, None].expand(-1, RECONSTRUCTION_FRAMES, -1, -1).cpu(), still)[:, 0]

    def _conditions(self, clips: Sequence[Clip]) -> tuple[_Given, tuple[int, ...]]:
        """What the clips ask for, and the shape [4, t, h, w] of their latents."""
        branches = self.guidance.branches
        num_frames = clips[0].num_frames
        with self._working(self.networks.first_stage):
            ends = torch.stack([self._end_latents(clip) for clip in clips])
        with self._working(self.networks.text, self.networks.image):
            text = {branch: [self._text(clip, branch) for clip in clips] for branch in branches}
            image = {branch: [self._image(clip, branch) for clip in clips] for branch in branches}
        with self._working(self.denoiser):
            context = {branch: torch.cat([self.denoiser.context(words, picture, num_frames) for words, picture
                                          in zip(text[branch], image[branch], strict=True)]) for branch in branches}
        hints, gate = None, None
        if clips[0].hints is not None:
            hints = to_frames(torch.stack([clip.hints for clip in clips if clip.hints is not None])).to(self.device)
            if self.job.sketch.zero_gate:
                gate = torch.cat([clip.guided for clip in clips if clip.guided is not None]).view(-1, 1, 1, 1).to(self.device)
        fps = torch.tensor([clip.fps for clip in clips], device=self.device)
        return _Given(ends, context, fps, hints, gate), tuple(ends.shape[1:])

    def _predict(self, given: _Given, branch: Branch, x: Tensor, t: Tensor) -> Tensor:
        """The UNet's v [b, 4, t, h, w] in one branch of guidance; sketches count in all of them (spec 7.3)."""
        context = given.context[branch]
        return self.networks.unet(torch.cat([x, given.ends], dim=1), t, context, given.fps,
                                  residuals=self._residuals(given, context, x, t))

    def _residuals(self, given: _Given, context: Tensor, x: Tensor, t: Tensor) -> list[Tensor] | None:
        encoder = self.networks.sketch
        if given.hints is None:
            return None
        assert encoder is not None
        num_frames = x.shape[2]
        choice = SketchContext(self.job.networks.sketch_context.value)
        factor: float | Tensor = self.job.sketch.scale
        found = encoder(to_frames(x), given.hints, t.repeat_interleave(num_frames), sketch_context(context, num_frames, choice))
        return [residual * (factor if given.gate is None else factor * given.gate.to(residual)) for residual in found]

    def _end_latents(self, clip: Clip) -> Tensor:
        """Condition on extra channels [4, t, h, w]: the key frames' latents in their places, zeros between."""
        first, last = self._latent(clip.first), self._latent(clip.last)
        ends = torch.zeros(len(first), clip.num_frames, *first.shape[1:], device=self.device)
        ends[:, 0], ends[:, -1] = first, last
        return ends

    def _latent(self, key: Key) -> Tensor:
        """A sample [4, h, w] float32 of a key frame's posterior, scaled; always one at a time, so always the same."""
        stage = self.networks.first_stage
        posterior = stage.encode(key.pixels[None].to(self.device, next(stage.parameters()).dtype))
        noise = torch.randn(posterior.mean.shape[1:], generator=torch_generator(key.film_seed, key.index, "posterior"))
        return LATENT_SCALE * posterior.sample(noise.to(posterior.mean))[0].float()

    def _text(self, clip: Clip, branch: Branch) -> Tensor:
        return self.networks.text([clip.prompt if branch is Branch.FULL else ""]).float()

    def _image(self, clip: Clip, branch: Branch) -> Tensor:
        shown = clip.first.shown[None].to(self.device)
        return self.networks.image(torch.zeros_like(shown) if branch is Branch.UNCOND else shown).float()

    @contextmanager
    def _working(self, *modules: nn.Module | None) -> Iterator[None]:
        """Within it the modules are on the device; afterwards, where memory is short, on the CPU again."""
        for module in modules:
            if module is not None:
                module.to(self.device)
        yield
        if self.job.memory.offload:
            for module in modules:
                if module is not None:
                    module.to("cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
