"""Sizes and lengths of samples: each clip goes to the bucket that cuts least of it away."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.config import DataConfig, parse_size
from training.data.clip_table import ClipFacts


@dataclass(frozen=True, slots=True)
class Bucket:
    """The form of all samples of a batch."""

    width: int
    height: int
    num_frames: int

    @property
    def name(self) -> str:
        return f"{self.width}x{self.height}x{self.num_frames}"


@dataclass(frozen=True, slots=True)
class SortedClips:
    """Keys of the clips of each bucket that has any, by its name, and of those too short for all."""

    buckets: tuple[Bucket, ...]
    keys: Mapping[str, tuple[str, ...]]
    too_short: tuple[str, ...]


def parse_buckets(data: DataConfig) -> tuple[Bucket, ...]:
    """The main bucket, data.size x data.num_frames, and those of data.buckets, without repetition."""
    buckets = [Bucket(*parse_size(data.size, "data.size"), data.num_frames)]
    for text in data.buckets:
        match = re.fullmatch(r"(\d+x\d+)(?:x(\d+))?", text)
        assert match is not None, f"data.buckets={text} passed the schema"
        buckets.append(Bucket(*parse_size(match[1], "data.buckets"), int(match[2] or data.num_frames)))
    return tuple(dict.fromkeys(buckets))


def fits(clip: ClipFacts, bucket: Bucket, data: DataConfig) -> bool:
    """Whether the clip has the bucket's frames, or drawings with data.drawings, at the smallest stride."""
    places = clip.num_drawings if data.drawings else clip.num_frames
    return places >= (bucket.num_frames - 1) * data.stride_min + 1


def sort_clips(clips: Sequence[ClipFacts], data: DataConfig, *, min_clips: int) -> SortedClips:
    """Gives each clip to the nearest shape it is long enough for; then the most frames, then the size nearest to its own.

    Buckets with fewer than `min_clips` clips would repeat clips within a batch: the smallest is closed and its clips go to
    the next best of those that stay open, until none is so small or only one is left. Clips that then fit nowhere count as
    too short.
    """
    open_buckets = list(parse_buckets(data))
    while True:
        keys: dict[Bucket, list[str]] = {bucket: [] for bucket in open_buckets}
        too_short = []
        for clip in clips:
            suitable = [bucket for bucket in open_buckets if fits(clip, bucket, data)]
            if suitable:
                keys[min(suitable, key=lambda bucket: _distance(clip, bucket))].append(clip.key)
            else:
                too_short.append(clip.key)
        smallest = min(reversed(open_buckets), key=lambda bucket: len(keys[bucket]))   # of equals, the main one stays
        if len(open_buckets) == 1 or len(keys[smallest]) >= min_clips:
            filled = tuple(bucket for bucket in open_buckets if keys[bucket])
            return SortedClips(filled, {bucket.name: tuple(keys[bucket]) for bucket in filled}, tuple(too_short))
        open_buckets.remove(smallest)


def _distance(clip: ClipFacts, bucket: Bucket) -> tuple[float, int, float]:
    """How badly a clip fits; clips whose record names no size fit all sizes equally, and so take the first."""
    if not (clip.width and clip.height):
        return 0.0, -bucket.num_frames, 0.0
    shape = abs(math.log(clip.width / clip.height * bucket.height / bucket.width))
    area = abs(math.log(bucket.width * bucket.height / (clip.width * clip.height)))
    return round(shape, 3), -bucket.num_frames, area
