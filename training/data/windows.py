"""Which frames of its clip a sample shows, how fast they are, and which of its conditions are dropped.

Dynamic fps as in DynamiCrafter's loader: a random stride, and the frame rate that follows from it as a condition. That loader
shortens the stride of a clip that is too short for the one it drew; here the stride is drawn among those the clip allows, so
short clips do not pile up on their longest stride.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import DataConfig
from training.data.clips import Clip, choose_frames
from training.seeds import numpy_generator

_RATE_SLACK = 1e-3          # frames/s by which a mean over time stamps falls short of the true rate; chosen here


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a clip: ascending frame indices, their rate in whole pictures a second, mirrored or not."""

    frames: tuple[int, ...]
    fps: int
    is_flipped: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """Conditions that a sample is trained without, for guidance without a classifier."""

    text: bool
    image: bool


def draw_window(clip: Clip, num_frames: int, data: DataConfig, *, seed: int, number: int) -> Window:
    """The window of sample `number`, a pure function of the arguments. ValueError where the clip is too short."""
    generator = numpy_generator(seed, number, "window")
    is_flipped = bool(generator.random() < data.flip)
    frames = choose_frames(clip.num_frames, clip.holds, num_frames, drawings=data.drawings,
                           stride_range=(data.stride_min, data.stride_max), generator=generator)
    return Window(tuple(int(frame) for frame in frames), rate(clip.fps, frames, fps_max=data.fps_max), is_flipped)


def fixed_window(clip: Clip, num_frames: int, data: DataConfig, *, index: int) -> Window:
    """The window of held-out clip `index`: in the middle of the clip, not mirrored.

    The strides go round from one clip to the next, as far as each clip allows, so all rates are measured. ValueError where the
    clip is too short.
    """
    firsts = np.concatenate([[0], np.cumsum(clip.holds)[:-1]]).astype(np.int64)
    places = firsts if data.drawings else np.arange(clip.num_frames, dtype=np.int64)
    longest = (len(places) - 1) // (num_frames - 1)
    if longest < data.stride_min:
        raise ValueError(f"a clip of {len(places)} has no {num_frames} at a stride of {data.stride_min}")
    stride = data.stride_min + index % (min(data.stride_max, longest) - data.stride_min + 1)
    start = (len(places) - 1 - (num_frames - 1) * stride) // 2
    frames = places[start + stride * np.arange(num_frames)]
    return Window(tuple(int(frame) for frame in frames), rate(clip.fps, frames, fps_max=data.fps_max), False)


def rate(source_fps: float, frames: NDArray[np.int64], *, fps_max: float) -> int:
    """Whole pictures a second of frames taken from a film: floor(source_fps / stride), at least 1, at most fps_max (0: any).

    Source: DynamiCrafter's loader. Where distinct drawings are taken, the stride is the mean distance of their frames; that is
    chosen here.
    """
    stride = float(frames[-1] - frames[0]) / max(len(frames) - 1, 1) or 1.0
    found = source_fps / stride
    return max(1, math.floor((min(found, fps_max) if fps_max > 0 else found) + _RATE_SLACK))


def draw_dropped(probability: float, *, seed: int, number: int) -> Dropped:
    """Which conditions sample `number` lacks: text alone, image alone and both with a chance of `probability` each.

    One uniform u decides: no text if u < 2p, no image if p <= u < 3p (DynamiCrafter's public training code).
    """
    u = float(numpy_generator(seed, number, "conditions").random())
    return Dropped(text=u < 2 * probability, image=probability <= u < 3 * probability)
