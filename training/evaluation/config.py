"""Typed schema of everything `evaluate` can be told; conf/evaluate.yaml holds the values and where each comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from pipeline.tracking import TrackerConfig
from training.config import Variant, parse_size
from training.sampling.config import MemoryConfig, NetworksConfig, SamplerConfig

OWN_SIZE = "own"
NAMED = ("folders", "checkpoints", "decoders")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")


class SystemName(StrEnum):
    """Who makes the frames between the given ones; docs/evaluate.md says how."""

    REPEAT = "repeat"
    CROSSFADE = "crossfade"
    FLOW_DIS = "flow_dis"
    FLOW_RAFT = "flow_raft"
    TOONCRAFTER = "tooncrafter"        # `networks`, between key frames
    RECONSTRUCT = "reconstruct"        # the first stage of `networks` alone: every frame encoded, then decoded
    ANIMEINTERP = "animeinterp"


class WeightsChoice(StrEnum):
    """What the metrics look through."""

    PUBLISHED = "published"            # the public networks: make weights PROFILE=evaluation
    EMBEDDED = "embedded"              # small random ones, marked: the numbers compare with nothing


class MeasuredFrames(StrEnum):
    """Which frames a metric sees where its name does not say (psnr@interior)."""

    ALL = "all"
    INTERIOR = "interior"              # without the first and the last


@dataclass(kw_only=True, slots=True)
class AnimeInterpConfig:
    """How the system animeinterp is built; read only where it is measured."""

    weights: str | None = None         # published file, or weights.safetensors of a training
    behaviour: Variant = MISSING       # how coarse flows enter the refinement
    iterations: int = MISSING          # of the refinement
    flows: bool = MISSING              # coarse flows are computed by segment-guided matching; false: none
    vgg19: str | None = None           # features of the matching; null: seeded random ones, marked in the identity

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"animeinterp.iterations={self.iterations} must be at least 1")


@dataclass(kw_only=True, slots=True)
class EvaluateJob:
    """One table: systems by metrics over one set of clips."""

    shards: str | None = None          # of a curation: its held-out clips
    triplets: str | None = None        # instead: a folder laid out as ATD-12K, or shards of triplets
    out: str = MISSING                 # report, frames and measured numbers
    systems: list[str] = MISSING       # of SystemName
    folders: list[str] = MISSING       # NAME:PATH, frames of any other system: PATH/<clip>/*.png
    checkpoints: list[str] = MISSING   # NAME:FILE, tooncrafter with weights of a training in their place
    decoders: list[str] = MISSING      # NAME:FILE, reconstruct with weights of a decoder training
    metrics: list[str] = MISSING       # names of training.metrics.suite, with @all, @interior or @roi where wanted
    frames: MeasuredFrames = MISSING
    strata: list[str] = MISSING        # title, cadence, motion, ...: a table for each value
    published: list[str] = MISSING     # tables of papers whose numbers are printed beside, marked
    weights: WeightsChoice = MISSING
    size: str = MISSING                # WIDTHxHEIGHT, or own: as the clips are
    num_frames: int = MISSING          # of a held-out clip; triplets have three
    stride: int = MISSING              # frames of the film from one to the next
    drawings: bool = MISSING           # strides count distinct drawings
    num_clips: int = MISSING           # 0: all
    rounding: bool = MISSING           # made frames are rounded to 8 bits, as if stored
    replicates: int = MISSING          # of the bootstrap
    confidence: float = MISSING        # of the intervals
    num_films: int = MISSING           # clips shown side by side in the HTML report
    keep_frames: bool = MISSING        # PNG files of all made frames, not only of those shown
    seed: int = MISSING
    device: str = MISSING              # auto, cpu or cuda
    ranks: int = MISSING               # processes that share the clips, each with a GPU
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    animeinterp: AnimeInterpConfig = field(default_factory=AnimeInterpConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        for name, least in (("num_frames", 3), ("stride", 1), ("num_clips", 0), ("replicates", 2), ("num_films", 0),
                            ("seed", 0), ("ranks", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence} must lie between 0 and 1")
        if self.size != OWN_SIZE:
            parse_size(self.size, "size")
        known = [member.value for member in SystemName]
        for system in self.systems:
            if system not in known:
                raise ValueError(f"systems has {system}, which is none of {', '.join(known)}")
        names = [*self.systems, *(name for option in NAMED for name, _ in named(self, option))]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the name {twice} is given to two systems; each has a row of its own")
        if not self.metrics:
            raise ValueError("metrics is empty; give some, e.g. [psnr@interior,ssim_rgb]")


def named(job: EvaluateJob, option: str) -> list[tuple[str, str]]:
    """The pairs of an option of NAMED; ValueError where one is none."""
    found = []
    for text in getattr(job, option):
        name, colon, value = text.partition(":")
        if not colon or not value or not NAME.fullmatch(name):
            raise ValueError(f"{option} has {text}, which is no NAME:PATH with a name of letters, digits, _ . + or -")
        found.append((name, value))
    return found
