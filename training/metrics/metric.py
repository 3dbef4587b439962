"""What a metric is, what it measures on, and the record of its result.

A metric sees one clip at a time (`update`) and keeps numbers or features, never pictures, so a set of any size can be measured.
`results` gives one record per number, each with its protocol: two values are comparable only where their protocols are equal.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Protocol as Interface

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.records import Json

NO_WEIGHTS = "no weights"


class Direction(StrEnum):
    HIGHER = "higher is better"
    LOWER = "lower is better"
    NEITHER = "read beside the others"


class Frames(StrEnum):
    """The frames of a clip that are measured. The input frames are part of a clip, so both choices are worth reporting."""

    ALL = "all"
    INTERIOR = "interior"       # without the first and the last, which the generator was given
    ENDS = "first and last"

    def of(self, video: Tensor) -> Tensor:
        """Returns the chosen frames of a video [t, ...]; UserError where there are none."""
        if self is Frames.INTERIOR:
            if len(video) < 3:
                raise UserError(f"a clip of {len(video)} frames has no interior", "the first and the last frame are given",
                                "Measure longer clips, or all frames")
            return video[1:-1]
        return video if self is Frames.ALL else video[[0, -1]]


@dataclass(frozen=True, slots=True)
class ClipPair:
    """A generated clip and the drawn one it stands for.

    Shapes: truth, generated [t, 3, h, w], floating point RGB in [0, 1], on one device. ValueError for anything else and for
    non-finite pixels, which name the clip.
    """

    key: str
    truth: Tensor
    generated: Tensor
    caption: str = ""

    def __post_init__(self) -> None:
        for role, video in (("truth", self.truth), ("generated", self.generated)):
            if video.dim() != 4 or video.shape[1] != 3 or len(video) == 0 or not video.is_floating_point():
                raise ValueError(f"{self.key}: {role} is {video.dtype} {list(video.shape)}, not floating point [t, 3, h, w]")
            lowest, highest = video.min().item(), video.max().item()
            # NaN fails both comparisons.
            if not (lowest >= 0 and highest <= 1):
                raise ValueError(f"{self.key}: {role} spans {lowest:g} to {highest:g}, not [0, 1]")
        if self.truth.shape != self.generated.shape:
            raise ValueError(f"{self.key}: truth is {list(self.truth.shape)}, generated is {list(self.generated.shape)}")


@dataclass(frozen=True, slots=True)
class Definition:
    """What a number means, independently of what it was measured on."""

    name: str
    direction: Direction
    lowest: float
    highest: float
    implementation: str         # id of the formula and its conventions
    note: str                   # what it answers to, and where it leaves published practice


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that two values must share to be compared."""

    implementation: str
    weights: str                # name and digest, NO_WEIGHTS, or the mark of an embedded stand-in
    frames: Frames
    num_frames: int             # measured per clip
    num_clips: int
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Result:
    """A measured number. `of_truth` is what the drawn clips themselves score, where a metric looks at one clip alone."""

    definition: Definition
    value: float
    protocol: Protocol
    of_truth: float | None = None
    per_clip: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return self.definition.name

    def as_record(self) -> dict[str, Json]:
        """Returns the result as JSON; infinities become the text "inf", since records hold finite numbers only."""
        protocol = self.protocol
        return {
            "metric": self.name, "value": _finite_or_text(self.value), "direction": self.definition.direction.value,
            "of_truth": None if self.of_truth is None else _finite_or_text(self.of_truth),
            "per_clip": [_finite_or_text(value) for value in self.per_clip],
            "protocol": {
                "implementation": protocol.implementation, "weights": protocol.weights, "frames": protocol.frames.value,
                "num_frames": protocol.num_frames, "num_clips": protocol.num_clips,
                "width_px": protocol.width_px, "height_px": protocol.height_px,
            },
        }


class Metric(Interface):
    """Fed clip by clip, asked once."""

    @property
    def definitions(self) -> tuple[Definition, ...]: ...

    def update(self, pair: ClipPair) -> None: ...

    def results(self) -> tuple[Result, ...]: ...


class Measured:
    """Counts the clips of a metric and insists that they are alike, because a protocol names one size and one length."""

    def __init__(self, frames: Frames, weights: str) -> None:
        self.frames, self.weights = frames, weights
        self.num_clips = 0
        self._shape: tuple[int, int, int] | None = None

    def select(self, pair: ClipPair) -> tuple[Tensor, Tensor]:
        """Returns the frames (truth, generated) to measure and counts the clip; UserError where its size is another."""
        num_frames, _, height, width = pair.truth.shape
        shape = (num_frames, height, width)
        if self._shape not in (None, shape):
            raise UserError(f"clip {pair.key} has (frames, height, width) {shape}, the clips before it {self._shape}",
                            "numbers over mixed sizes cannot be compared with any other", "Measure clips of one size and length")
        chosen = self.frames.of(pair.truth), self.frames.of(pair.generated)
        self._shape = shape
        self.num_clips += 1
        return chosen

    def protocol(self, implementation: str) -> Protocol:
        """Returns what was measured; UserError where there was nothing."""
        if self._shape is None:
            raise UserError("there is nothing to measure", "no clip was given", "Check that the evaluation set is not empty")
        num_frames, height, width = self._shape
        measured = {Frames.ALL: num_frames, Frames.INTERIOR: num_frames - 2, Frames.ENDS: 2}[self.frames]
        return Protocol(implementation, self.weights, self.frames, measured, self.num_clips, width, height)


@dataclass(frozen=True, slots=True)
class Score:
    """A number of one clip; `of_truth` where a metric looks at one clip alone and the truth has a score too."""

    value: float
    of_truth: float | None = None


class PerClipMetric(ABC):
    """A metric whose numbers exist for each clip and are averaged: over frames first, then over clips."""

    definitions: tuple[Definition, ...]

    def __init__(self, *, frames: Frames = Frames.ALL, weights: str = NO_WEIGHTS) -> None:
        self._measured = Measured(frames, weights)
        self._scores: list[tuple[Score, ...]] = []

    @abstractmethod
    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        """Returns one score per definition for the chosen frames [t, 3, h, w], RGB in [0, 1]."""

    @torch.no_grad()
    def update(self, pair: ClipPair) -> None:
        scores = self.score(*self._measured.select(pair), pair.caption)
        if any(math.isnan(score.value) for score in scores):
            raise ArithmeticError(f"{self.definitions[0].name} of clip {pair.key} is not a number")
        self._scores.append(scores)

    def results(self) -> tuple[Result, ...]:
        """UserError where no clip was given."""
        protocols = [self._measured.protocol(definition.implementation) for definition in self.definitions]
        found = []
        for definition, protocol, column in zip(self.definitions, protocols, zip(*self._scores, strict=True), strict=True):
            of_truth = [score.of_truth for score in column if score.of_truth is not None]
            per_clip = tuple(score.value for score in column)
            found.append(Result(definition, fmean(per_clip), protocol, fmean(of_truth) if of_truth else None, per_clip))
        return tuple(found)


def _finite_or_text(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
