"""Typed schemas of everything a training can be told; conf/ holds the values and where each number comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from pipeline.tracking import TrackerConfig

# Settings that are no part of a run's identity, and why: with them changed, the same command goes on.
NOT_IDENTITY: Mapping[str, str] = {
    "shards": "a place; the digest of what lies there is an input of its own",
    "out": "a place",
    "init": "read only where there is no checkpoint yet",
    "device": "changes rounding, not the run",
    "experiment": "a name for settings that count themselves",
    "task.num_steps": "the learning rate falls at steps of its own or never, so more steps are the same run for longer",
    "task.expected_trainable": "a check",
    "model.weights": "a place; frozen weights count by their digest, trained ones are in the checkpoint",
    "model.first_stage": "as model.weights",
    "model.sketch": "as model.weights",
    "model.lpips": "as model.weights",
    "model.checkpointing": "computes the same values at another moment",
    "model.compile": "changes rounding, not the run",
    "data.num_workers": "samples are functions of their number",
    "data.num_previews": "only shown",
    "data.cache": "keeps what would be computed again",
    "engine.cpu_offload": "says where the states lie",
    "launch": "the number of ranks is compared by itself",
    "run": "when to log and save",
    "tracker": "where measurements are copied to",
}


class TaskName(StrEnum):
    RECTIFY = "rectify"
    DECODER = "decoder"
    SKETCH = "sketch"
    ANIMEINTERP = "animeinterp"


class Preset(StrEnum):
    """Which networks: training/models/presets.py, or the interpolation network at its published size."""

    TOONCRAFTER_512 = "tooncrafter_512"
    TOONCRAFTER_1024 = "tooncrafter_1024"
    ANIMEINTERP = "animeinterp"
    TINY = "tiny"


class Checkpointing(StrEnum):
    """Which activations are computed again in the backward pass instead of being kept."""

    NONE = "none"
    SELECTIVE = "selective"
    ALL = "all"


class LastLayer(StrEnum):
    """The weight on which the adaptive factor of the GAN loss is measured."""

    CONV_OUT = "conv_out"
    TIME_MIX_CONV = "time_mix_conv"


class SketchContext(StrEnum):
    TEXT = "text"
    TEXT_AND_FRAME_IMAGE = "text_and_frame_image"
    ALL_TOKENS = "all_tokens"


class SketchSource(StrEnum):
    """Where the line drawings of the frames come from."""

    SAMPLE = "sample"
    OPENCV = "opencv"


class Variant(StrEnum):
    """Where AnimeInterp's paper and its release differ: training/animeinterp/behaviour.py."""

    PAPER = "paper"
    RELEASED = "released"


class FlowSource(StrEnum):
    """Where the coarse flows between the outer frames of a triplet come from."""

    NONE = "none"
    SHARDS = "shards"                      # flow.npz of each sample
    COMPUTED = "computed"                  # segment-guided matching when first needed, then kept


class EngineName(StrEnum):
    PLAIN = "plain"
    DEEPSPEED = "deepspeed"


class Precision(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"


class LauncherName(StrEnum):
    LOCAL = "local"
    TORCHRUN = "torchrun"
    DEEPSPEED = "deepspeed"
    HOSTFILE = "hostfile"
    SLURM = "slurm"


def parse_size(text: str, option: str) -> tuple[int, int]:
    """Returns (width, height) of a size written "512x320"; ValueError names `option`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or "0" in (match[1], match[2]):
        raise ValueError(f"{option}={text} is no size; write WIDTHxHEIGHT, e.g. 512x320")
    return int(match[1]), int(match[2])


def _size_and_frames(text: str) -> tuple[str, int | None]:
    """Takes "512x320x8" apart; without frames the second is None."""
    match = re.fullmatch(r"(\d+x\d+)x(\d+)", text)
    return (match[1], int(match[2])) if match else (text, None)


def _at_least(owner: object, prefix: str, least: float, *names: str) -> None:
    for name in names:
        if getattr(owner, name) < least:
            raise ValueError(f"{prefix}.{name}={getattr(owner, name)} must be at least {least:g}")


def _share(owner: object, prefix: str, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(owner, name) <= 1.0:
            raise ValueError(f"{prefix}.{name}={getattr(owner, name)} must be a share between 0 and 1")


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    """AdamW with a constant learning rate after a linear warm-up, or one that falls in steps."""

    learning_rate: float = MISSING
    beta1: float = MISSING
    beta2: float = MISSING
    eps: float = MISSING
    weight_decay: float = MISSING
    grad_clip: float = MISSING             # norm of all gradients together; 0: off
    warmup_steps: int = MISSING
    ema_decay: float = MISSING             # of the averaged weights; 0: none are kept
    decay_at: list[int] | None = None      # steps from which on the rate is decay_factor times what it was; null: constant
    decay_factor: float | None = None

    def __post_init__(self) -> None:
        _at_least(self, "task.optim", 0.0, "learning_rate", "weight_decay", "grad_clip", "warmup_steps")
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"task.optim.{name}={getattr(self, name)} must be at least 0 and below 1")
        if bool(self.decay_at) != (self.decay_factor is not None):
            raise ValueError("task.optim.decay_at and task.optim.decay_factor must be given together")
        if self.decay_at and (min(self.decay_at) < 1 or self.decay_at != sorted(set(self.decay_at))):
            raise ValueError(f"task.optim.decay_at={self.decay_at} must be ascending steps from 1 on")
        if self.decay_factor is not None and not 0.0 < self.decay_factor < 1.0:
            raise ValueError(f"task.optim.decay_factor={self.decay_factor} must be above 0 and below 1")


@dataclass(kw_only=True, slots=True)
class LoraConfig:
    """Low-rank updates of the UNet's spatial attention instead of its weights (rectification only)."""

    rank: int = MISSING                    # 0: off
    alpha: float = MISSING
    merge_on_export: bool = MISSING

    def __post_init__(self) -> None:
        _at_least(self, "task.lora", 0, "rank")


@dataclass(kw_only=True, slots=True)
class GanConfig:
    """Losses of the decoder; spec 8.3."""

    lpips_weight: float = MISSING
    disc_weight: float = MISSING
    disc_learning_rate: float = MISSING
    disc_start: int = MISSING              # step at which the discriminator begins to learn
    adv_start: int = MISSING               # step at which the decoder begins to listen to it
    last_layer: LastLayer = MISSING
    use_references: bool = MISSING         # HAR; off: Table 4 without it
    use_temporal: bool = MISSING           # P3D; off: Table 4 without it

    def __post_init__(self) -> None:
        _at_least(self, "task.gan", 0, "lpips_weight", "disc_weight", "disc_learning_rate", "disc_start")
        if self.adv_start < self.disc_start:
            raise ValueError(f"task.gan.adv_start={self.adv_start} comes before task.gan.disc_start={self.disc_start}: "
                             "the discriminator must learn before it is listened to")


@dataclass(kw_only=True, slots=True)
class SketchConfig:
    """Sparse sketch guidance; spec 7.4-7.6."""

    context: SketchContext = MISSING
    zero_gate: bool = MISSING              # train with sketches on all frames; unguided ones are gated at inference
    bisection_share: float = MISSING       # of the samples; the others draw a random subset of frames

    def __post_init__(self) -> None:
        _share(self, "task.sketch", "bisection_share")


@dataclass(kw_only=True, slots=True)
class InterpolationConfig:
    """AnimeInterp (arXiv 2104.02495); checked only where it is trained."""

    behaviour: Variant = MISSING           # of the flow refinement: how the coarse flow enters it
    splatting: Variant = MISSING           # paper: weighed by a learnt importance; released: averaged
    num_iterations: int = MISSING          # of the flow refinement

    def check(self) -> None:
        _at_least(self, "task.interpolation", 1, "num_iterations")


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    """What is trained, on how much, and how fast."""

    name: TaskName = MISSING
    num_steps: int = MISSING
    global_batch: int = MISSING            # clips an optimiser step, over all ranks
    train_groups: list[str] = MISSING      # parameter groups by name: training/models/parameter_groups.py
    expected_trainable: int | None = None  # parameters at full size; another number refuses to start
    bypass_temporal: bool = MISSING        # temporal layers are left out while training (Table 3, III)
    condition_drop: float = MISSING        # chance that text, image or both are dropped; spec 5
    offset_noise: float = MISSING
    optim: OptimConfig = field(default_factory=OptimConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    gan: GanConfig = field(default_factory=GanConfig)
    sketch: SketchConfig = field(default_factory=SketchConfig)
    interpolation: InterpolationConfig = field(default_factory=InterpolationConfig)

    def __post_init__(self) -> None:
        _at_least(self, "task", 0, "num_steps", "offset_noise")
        _at_least(self, "task", 1, "global_batch")
        _share(self, "task", "condition_drop")
        if bool(self.lora.rank) != ("lora" in self.train_groups):
            raise ValueError(f"task.lora.rank={self.lora.rank} and task.train_groups={self.train_groups} do not agree: "
                             "the group lora exists with a rank only, and is what then trains")
        if self.lora.rank and self.name is not TaskName.RECTIFY:
            raise ValueError(f"task.lora.rank={self.lora.rank} is of use to task=rectify only")


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Networks and the weights they start from; references as docs/weights.md writes them, null: seeded random weights."""

    preset: Preset = MISSING
    weights: str | None = None             # whole model in the upstream layout: UNet, projector, first stage, towers
    first_stage: str | None = None         # replaces that of `weights`: SD VAE or SVD temporal decoder
    sketch: str | None = None              # sketch encoder; null: a copy of the UNet's spatial encoder half
    lpips: str | None = None               # VGG-16 backbone; null: seeded random features, marked as such
    frozen_precision: Precision = MISSING
    checkpointing: Checkpointing = MISSING
    compile: bool = MISSING


@dataclass(kw_only=True, slots=True)
class CacheConfig:
    """Features of frozen networks kept between epochs, under a key that holds the digest of their weights."""

    text: bool = MISSING
    latents: bool = MISSING
    folder: str | None = None              # null: <out>/cache


@dataclass(kw_only=True, slots=True)
class TripletConfig:
    """Triplets of frames as AnimeInterp trains on them; checked only where they are read."""

    frame_size: str = MISSING              # WIDTHxHEIGHT that frames are brought to; data.size is the crop taken of them
    crop_shift: int = MISSING              # pixels by which the crop wanders from first to last frame, at most; even
    vertical_flip: float = MISSING         # chance of a triplet upside down; data.flip is that of a mirrored one
    reverse: float = MISSING               # chance that a triplet runs backwards
    flows: FlowSource = MISSING
    vgg19: str | None = None               # features of computed flows; null: seeded random ones, marked as such

    def check(self, crop: str) -> None:
        width, height = parse_size(self.frame_size, "data.triplets.frame_size")
        crop_width, crop_height = parse_size(crop, "data.size")
        if crop_width > width or crop_height > height:
            raise ValueError(f"data.size={crop} is larger than data.triplets.frame_size={self.frame_size}")
        if width % 2 or height % 2:
            raise ValueError(f"data.triplets.frame_size={self.frame_size} must be even")
        if self.crop_shift < 0 or self.crop_shift % 2:
            raise ValueError(f"data.triplets.crop_shift={self.crop_shift} must be even and at least 0")
        _share(self, "data.triplets", "vertical_flip", "reverse")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """What a training sample is made of; everything random about sample n is a function of (seed, n)."""

    num_frames: int = MISSING
    size: str = MISSING                    # WIDTHxHEIGHT of a sample; multiples of 64, for AnimeInterp of 4
    buckets: list[str] = MISSING           # further sizes, optionally with frames ("256x256", "512x320x8"); [] : one size
    stride_min: int = MISSING
    stride_max: int = MISSING
    drawings: bool = MISSING               # strides count distinct drawings, not raw frames
    fps_max: float = MISSING
    flip: float = MISSING                  # chance of a mirrored clip
    sketch_source: SketchSource = MISSING
    num_workers: int = MISSING             # processes that decode, a rank
    num_heldout: int = MISSING             # clips of the eval shards that held-out losses are measured on
    num_previews: int = MISSING            # of these, how many are shown as videos
    cache: CacheConfig = field(default_factory=CacheConfig)
    triplets: TripletConfig = field(default_factory=TripletConfig)

    def __post_init__(self) -> None:
        for text, option in self.sizes():
            size, frames = _size_and_frames(text)
            parse_size(size, option)
            if frames is not None and frames < 3:
                raise ValueError(f"{option}={text} has {frames} frames; at least 3 are needed")
        if not 1 <= self.stride_min <= self.stride_max:
            raise ValueError(f"data.stride_min={self.stride_min} and data.stride_max={self.stride_max} must ascend from 1")
        _at_least(self, "data", 3, "num_frames")
        _at_least(self, "data", 0, "fps_max")
        _at_least(self, "data", 0, "num_workers", "num_previews")
        _at_least(self, "data", 1, "num_heldout")
        _share(self, "data", "flip")

    def sizes(self) -> list[tuple[str, str]]:
        """Every size of a sample as it is written, and the option that names it."""
        return [(self.size, "data.size"), *((bucket, "data.buckets") for bucket in self.buckets)]

    def check_multiples(self, multiple: int, why: str) -> None:
        for text, option in self.sizes():
            if any(side % multiple for side in parse_size(_size_and_frames(text)[0], option)):
                raise ValueError(f"{option}={text} must be multiples of {multiple}: {why}")


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    name: EngineName = MISSING
    zero: int = MISSING                    # DeepSpeed's ZeRO stage
    precision: Precision = MISSING
    micro_batch: int = MISSING             # clips a rank takes at once
    cpu_offload: bool = MISSING            # optimiser states in host memory

    def __post_init__(self) -> None:
        _at_least(self, "engine", 1, "micro_batch")
        if self.zero not in (0, 1, 2, 3):
            raise ValueError(f"engine.zero={self.zero} must be 0, 1, 2 or 3")


@dataclass(kw_only=True, slots=True)
class LaunchConfig:
    """How the ranks are started."""

    name: LauncherName = MISSING
    nodes: int = MISSING
    ranks_per_node: int = MISSING
    hostfile: str | None = None
    master_port: int = MISSING
    partition: str | None = None           # SLURM
    account: str | None = None
    time_limit: str = MISSING              # SLURM, e.g. "24:00:00"
    grace_s: int = MISSING                 # SLURM: how long before the end the job is asked to save
    forward_env: list[str] = MISSING       # variables that reach the other nodes
    dry_run: bool = MISSING                # write the command or job file and start nothing

    def __post_init__(self) -> None:
        _at_least(self, "launch", 1, "nodes", "ranks_per_node", "grace_s")


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """When the loop logs, measures, shows and saves; in optimiser steps. Changes no result."""

    log_every: int = MISSING
    heldout_every: int = MISSING
    preview_every: int = MISSING
    preview_ddim_steps: int = MISSING
    save_every: int = MISSING
    save_minutes: float = MISSING          # and at least so often; 0: by steps only
    keep_last: int = MISSING
    keep_every: int = MISSING              # steps whose checkpoints are never deleted; 0: none

    def __post_init__(self) -> None:
        _at_least(self, "run", 1, "log_every", "heldout_every", "preview_every", "preview_ddim_steps", "save_every")
        if self.keep_last < 2:
            raise ValueError(f"run.keep_last={self.keep_last} must be at least 2: the newest may be damaged when it is needed")


@dataclass(kw_only=True, slots=True)
class TrainJob:
    """A whole training."""

    shards: str | None = None              # folder of a curation
    out: str = MISSING
    init: str | None = None                # weights to start from, of another run; step count and optimiser start anew
    seed: int = MISSING
    device: str = MISSING                  # auto, cpu or cuda
    experiment: str | None = None
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    run: RunConfig = field(default_factory=RunConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        ranks = self.launch.nodes * self.launch.ranks_per_node
        clips = ranks * self.engine.micro_batch
        if self.task.global_batch % clips:
            raise ValueError(
                f"task.global_batch={self.task.global_batch} cannot be split over {ranks} ranks with "
                f"engine.micro_batch={self.engine.micro_batch} ({clips} clips a pass); give a multiple of {clips}")
        if self.engine.name is EngineName.PLAIN and ranks > 1:
            raise ValueError(f"engine=plain is one process, and launch asks for {ranks} ranks; use engine=zero1")
        if self.task.name is TaskName.ANIMEINTERP:
            self._check_triplets()
        else:
            self.data.check_multiples(64, "the UNet halves latents three times")

    def _check_triplets(self) -> None:
        self.data.check_multiples(4, "the synthesis halves pictures twice")
        if self.data.num_frames != 3:
            raise ValueError(f"data.num_frames={self.data.num_frames} must be 3 with task=animeinterp; use data=triplets")
        if self.data.buckets:
            raise ValueError("data.buckets must be empty with task=animeinterp: all crops are of one size")
        self.task.interpolation.check()
        self.data.triplets.check(self.data.size)

    @property
    def recipe_count(self) -> int | None:
        """Parameters that the recipe trains, which it says of the published networks only."""
        return None if self.model.preset is Preset.TINY else self.task.expected_trainable

    @property
    def accumulate(self) -> int:
        """Passes a rank makes for one optimiser step."""
        return self.task.global_batch // (self.launch.nodes * self.launch.ranks_per_node * self.engine.micro_batch)
