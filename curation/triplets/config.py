"""Typed schema of everything `triplets` can be told; conf/triplets.yaml holds the values and where each number comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from curation.config import ExecutorName, RayConfig, ShardsConfig, parse_size


class Unit(StrEnum):
    """What the spacing of a triplet counts."""

    DRAWINGS = "drawings"              # distinct ones, by the clip's hold map
    FRAMES = "frames"                  # of the film, as ATD-12K did


@dataclass(kw_only=True, slots=True)
class CandidatesConfig:
    """Which three frames of a clip are looked at, and how many triplets a shot may give."""

    unit: Unit = MISSING
    spacings: list[int] = MISSING      # 1: neighbours; 2, 3: one or two between are left out
    stride: int = MISSING              # from the first drawing of a candidate to that of the next
    per_shot: int = MISSING            # 0: all that pass
    seed: int = MISSING                # which of those that pass

    def __post_init__(self) -> None:
        if not self.spacings or min(self.spacings) < 1 or len(set(self.spacings)) < len(self.spacings):
            raise ValueError(f"candidates.spacings={self.spacings} must be different whole numbers from 1 on, e.g. [1,2,3]")
        if self.stride < 1:
            raise ValueError(f"candidates.stride={self.stride} must be positive")
        if self.per_shot < 0:
            raise ValueError(f"candidates.per_shot={self.per_shot} must be 0 (all) or more")


@dataclass(kw_only=True, slots=True)
class SsimLimits:
    """Limits of the structural similarity of any two of the three frames, at a fixed working size."""

    min: float = MISSING
    max: float = MISSING
    size: str = MISSING

    def __post_init__(self) -> None:
        parse_size(self.size, "ssim.size")
        if not -1.0 <= self.min < self.max <= 1.0:
            raise ValueError(f"ssim.min={self.min} and ssim.max={self.max} must ascend, between -1 and 1")


@dataclass(kw_only=True, slots=True)
class NamesConfig:
    """How triplets are named: ORIGIN_v<film>_<shot>_<frame>_s<spacing>."""

    origin: str = MISSING
    japan: str = MISSING               # pattern of the titles named Japan_ instead; empty: none

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,19}", self.origin):
            raise ValueError(f"names.origin={self.origin} must be 1 to 20 ASCII letters and digits, a letter first")
        try:
            re.compile(self.japan)
        except re.error as error:
            raise ValueError(f"names.japan={self.japan} is no regular expression ({error})") from error


@dataclass(kw_only=True, slots=True)
class VotesConfig:
    file: str | None = None            # CSV of reviewers' votes; None: every triplet that passes stays
    min: int = MISSING                 # reviewers who must call a triplet eligible

    def __post_init__(self) -> None:
        if self.min < 1:
            raise ValueError(f"votes.min={self.min} must be positive")
        if self.file == "":
            raise ValueError("votes.file is empty: give a CSV file, or leave it out")


@dataclass(kw_only=True, slots=True)
class TripletsJob:
    """One set of triplets, complete: what `<out>/config.yaml` holds and `python -m curation.triplets` reads."""

    shards: str | None = None          # output folder of a finished curation
    out: str = MISSING
    store: str | None = None           # artifacts; None: <out>/artifacts
    executor: ExecutorName = MISSING
    workers: int = MISSING             # 0: one per core
    candidates: CandidatesConfig = field(default_factory=CandidatesConfig)
    ssim: SsimLimits = field(default_factory=SsimLimits)
    names: NamesConfig = field(default_factory=NamesConfig)
    votes: VotesConfig = field(default_factory=VotesConfig)
    tars: ShardsConfig = field(default_factory=ShardsConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers={self.workers} must be 0 (one per core) or more")
