"""What is evaluated: clips with the frames a system may see, the frames it has to make, and the groups a clip belongs to.

Entries are listed first, from records and bytes alone; pictures are decoded when an entry is loaded, so a run that measures
nothing decodes nothing. Each entry has an identity: a key of everything that its frames depend on, and of no path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.shards import ShardReader
from training.config import parse_size
from training.data.clips import SAMPLE_SCHEMA, Clip, read_clip
from training.data.framing import cover
from training.data.windows import rate
from training.evaluation.config import OWN_SIZE

UNKNOWN = "unknown"
Region = tuple[int, int, int, int]     # x, y, width, height in pixels of the sample


@dataclass(frozen=True, eq=False, slots=True)
class EvalSample:
    """A clip to be measured. ValueError unless the given frames ascend from the first to the last.

    `truth` [t, 3, h, w] float32 RGB in [0, 1]; `given`: indices of the frames a system may see, all others are to be made.
    """

    key: str
    title: str
    caption: str
    fps: int
    truth: Tensor
    given: tuple[int, ...]
    strata: Mapping[str, str] = field(default_factory=dict)
    roi: Region | None = None
    identity: str = ""

    def __post_init__(self) -> None:
        ascends = all(earlier < later for earlier, later in pairwise(self.given))
        if not (ascends and self.given[:1] == (0,) and self.given[-1] == len(self.truth) - 1 > 0):
            raise ValueError(f"{self.key}: given frames {self.given} do not ascend from the first to the last of "
                             f"{len(self.truth)}")

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Neighbouring given frames with something to make between them."""
        return [(first, last) for first, last in pairwise(self.given) if last - first > 1]


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A clip before its pictures are decoded. `amounts` are numbers that the set is cut into thirds by, e.g. motion."""

    key: str
    identity: str
    num_frames: int
    given: tuple[int, ...]
    strata: Mapping[str, str]
    amounts: Mapping[str, float]
    load: Callable[[], EvalSample]


@dataclass(frozen=True, slots=True)
class HeldoutRecipe:
    """Which frames of a held-out clip are shown, and how large: of its middle, the stride as large as the clip allows."""

    num_frames: int
    size: str
    stride: int = 1
    drawings: bool = False             # the stride counts distinct drawings

    def window(self, clip: Clip) -> NDArray[np.int64] | None:
        """Ascending frame indices [num_frames]; None where the clip is too short."""
        firsts = np.concatenate([[0], np.cumsum(clip.holds)[:-1]]).astype(np.int64)
        places = firsts if self.drawings else np.arange(clip.num_frames, dtype=np.int64)
        stride = min(self.stride, (len(places) - 1) // (self.num_frames - 1))
        if stride < 1:
            return None
        start = (len(places) - 1 - (self.num_frames - 1) * stride) // 2
        return places[start + stride * np.arange(self.num_frames)]


def read_heldout(shards: Path | str, recipe: HeldoutRecipe, *, num_clips: int = 0) -> Iterator[EvalSample]:
    """The held-out clips of a curation, decoded one by one."""
    return (entry.load() for entry in list_heldout(shards, recipe, num_clips=num_clips)[0])


def list_heldout(shards: Path | str, recipe: HeldoutRecipe, *, num_clips: int = 0) -> tuple[list[Entry], int]:
    """The held-out clips in an order that follows from their keys alone, and how many are too short.

    `num_clips` takes the first so many, 0 all. UserError where there are none.
    """
    reader = ShardReader(shards, "eval")
    if not len(reader):
        raise UserError(f"{shards} has no held-out clips", "it has no eval shards",
                        "Curate more films, or raise curation.split.eval_share and run the curation again")
    entries: list[Entry] = []
    too_short = 0
    for key in sorted(reader.keys, key=lambda key: hashlib.sha256(key.encode()).digest()):
        if num_clips and len(entries) == num_clips:
            break
        entry = _heldout(reader, key, recipe)
        if entry is None:
            too_short += 1
        else:
            entries.append(entry)
    if not entries:
        what = "distinct drawings" if recipe.drawings else "frames"
        raise UserError(f"{shards} has no held-out clip that is long enough",
                        f"none of {too_short} has {recipe.num_frames} {what}",
                        "Lower num_frames, set drawings=false, or curate longer clips")
    return entries, too_short


def to_unit(pictures_u8: NDArray[np.uint8]) -> Tensor:
    """Pictures [t, h, w, 3] uint8 as [t, 3, h, w] float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures_u8)).permute(0, 3, 1, 2).float() / 255


def sized(pictures_u8: NDArray[np.uint8], size: str) -> NDArray[np.uint8]:
    """Pictures [t, h, w, 3] at the wanted size: nothing is stretched, the middle is kept."""
    if size == OWN_SIZE:
        return pictures_u8
    width, height = parse_size(size, "size")
    return cover(pictures_u8, width=width, height=height)


def _heldout(reader: ShardReader, key: str, recipe: HeldoutRecipe) -> Entry | None:
    sample = reader.sample(key, ("mp4", "json", "txt"))
    clip = read_clip(sample)
    frames = recipe.window(clip)
    if frames is None:
        return None
    record = json.loads(sample.files["json"])
    motion = (record.get("scores") or {}).get("motion") or {}
    title = str(record.get("title") or UNKNOWN)
    strata = {"title": title, "cadence": str(record.get("cadence") or UNKNOWN), "motion": str(motion.get("kind") or UNKNOWN)}
    amounts = {"motion_amount": float(motion["mean"])} if "mean" in motion else {}
    fps = rate(clip.fps, frames, fps_max=0)
    given = (0, len(frames) - 1)
    identity = content_key(schema=SAMPLE_SCHEMA, mp4=hashlib.sha256(clip.mp4).hexdigest(), frames=frames.tolist(),
                           size=recipe.size, fps=fps, caption=clip.caption, given=given)

    def load() -> EvalSample:
        try:
            pictures = read_clip(reader.sample(key, ("mp4", "json", "txt"))).read(frames)
        except (IndexError, ValueError, OSError) as error:
            raise UserError(f"clip {key} is damaged", str(error), "Run the curation again, or copy the shard again") from error
        return EvalSample(key, title, clip.caption, fps, to_unit(sized(pictures, recipe.size)), given, strata, None, identity)

    return Entry(key, identity, len(frames), given, strata, amounts, load)
