"""One clip of a shard: its frames, their times and the drawings they show, and which of them a training sample takes.

ToonCrafter (arXiv 2405.17933) trains on 16 frames at a dynamic frame rate: any stride. Cartoons hold their drawings, so a
stride over raw frames shows some drawings twice and skips others; a sample may take distinct drawings instead.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.shards import Sample

SAMPLE_SCHEMA = 1            # of the json member, as the curation writes it


@dataclass(frozen=True)
class Clip:
    """A sample of the shards. The film is decoded when `frames` or `pts_s` are first asked for."""

    key: str
    caption: str
    fps: float                         # average of the source over the clip
    holds: tuple[int, ...]             # frames each drawing stays, in order; sums to num_frames
    mp4: bytes = field(repr=False)

    @property
    def num_frames(self) -> int:
        return sum(self.holds)

    @property
    def frames(self) -> NDArray[np.uint8]:
        """RGB uint8 [f, h, w, 3]."""
        return self._decoded[0]

    @property
    def pts_s(self) -> NDArray[np.float64]:
        """When each frame appears, seconds from the first, [f]."""
        return self._decoded[1]

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames `indices` alone, in their order, RGB uint8 [len(indices), h, w, 3]; keeps none of the others in memory.

        IndexError where the film ends before an index, ValueError where a picture is damaged.
        """
        wanted = {int(index): None for index in indices}
        found: dict[int, NDArray[np.uint8]] = {}
        last = max(wanted, default=-1)
        with av.open(io.BytesIO(self.mp4), "r") as film:
            film.streams.video[0].codec_context.thread_count = 1      # clips are decoded by several processes at once
            for index, picture in enumerate(film.decode(video=0)):
                if picture.is_corrupt:
                    raise ValueError(f"clip {self.key} is damaged at frame {index}")
                if index in wanted:
                    found[index] = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
                if index >= last:
                    break
        missing = [index for index in wanted if index not in found]
        if missing:
            raise IndexError(f"clip {self.key} has no frame {missing[0]}")
        return np.stack([found[int(index)] for index in indices])

    @cached_property
    def _decoded(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        pictures, times = [], []
        with av.open(io.BytesIO(self.mp4), "r") as film:
            for picture in film.decode(video=0):
                pictures.append(np.asarray(picture.to_ndarray(format="rgb24"), np.uint8))
                times.append(Fraction(picture.pts or 0) * Fraction(picture.time_base or 1))
        if len(pictures) != self.num_frames:
            raise UserError(f"clip {self.key} is damaged", f"its film has {len(pictures)} frames, its record {self.num_frames}",
                            "Run the curation again, or copy the shard again")
        return np.stack(pictures), np.array([float(time - times[0]) for time in times])


def read_clip(sample: Sample) -> Clip:
    """The clip of a sample of pipeline.shards; UserError where a member is missing or was written with another schema."""
    missing = [name for name in ("mp4", "json") if name not in sample.files]
    if missing:
        raise UserError(f"sample {sample.key} is no clip", f"it has no {missing[0]}", "Give the shards of a curation")
    record = json.loads(sample.files["json"])
    if record.get("schema") != SAMPLE_SCHEMA:
        raise UserError(f"sample {sample.key} has schema {record.get('schema')}", f"this version reads {SAMPLE_SCHEMA}",
                        "Run the curation again with this version")
    caption = sample.files["txt"].decode() if "txt" in sample.files else str(record["captions"][0]["text"])
    return Clip(sample.key, caption, float(record["fps"]), tuple(int(hold) for hold in record["holds"]), sample.files["mp4"])


def choose_frames(num_frames_in_clip: int, holds: tuple[int, ...], count: int, *, drawings: bool,
                  stride_range: tuple[int, int], generator: np.random.Generator) -> NDArray[np.int64]:
    """Ascending frame indices [count] of one training sample; a pure function of its arguments and the generator's state.

    A stride is drawn evenly from stride_range (both inclusive) as far as the clip allows it, then a start. The stride counts
    raw frames, or with `drawings` distinct drawings, each shown by the first frame of its hold. ValueError where the clip
    has fewer than `count` frames or drawings at the smallest stride.
    """
    if sum(holds) != num_frames_in_clip:
        raise ValueError(f"holds of {sum(holds)} frames do not fit a clip of {num_frames_in_clip}")
    low, high = stride_range
    if count < 1 or not 1 <= low <= high:
        raise ValueError(f"count={count} and stride_range={stride_range} must be positive, the range ascending")
    firsts = np.concatenate([[0], np.cumsum(holds)[:-1]]).astype(np.int64)
    places = firsts if drawings else np.arange(num_frames_in_clip, dtype=np.int64)
    longest = (len(places) - 1) // (count - 1) if count > 1 else high
    if len(places) < count or longest < low:
        what = "distinct drawings" if drawings else "frames"
        raise ValueError(f"a clip of {len(places)} {what} has no {count} at a stride of {low}")
    stride = int(generator.integers(low, min(high, longest) + 1))
    start = int(generator.integers(0, len(places) - (count - 1) * stride))
    return places[start + stride * np.arange(count)]
