"""Sample n of a training, and clip i of the held-out ones, as bytes: read, decoded, framed, drawn.

A clip that proves to be damaged is replaced by the next one of its order. Whether it is damaged follows from its bytes and the
sample number alone, so every rank and every worker replaces it by the same; nothing is remembered from sample to sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import av.error
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.shards import Sample, ShardReader
from training.config import DataConfig, SketchConfig, SketchSource
from training.data.buckets import Bucket
from training.data.clip_table import Damage
from training.data.clips import Clip, read_clip
from training.data.framing import cover
from training.data.order import Order
from training.data.sketches import draw_sketch, read_sketches
from training.data.windows import Window, draw_dropped, draw_window, fixed_window
from training.diffusion.sketch_selection import select_frames
from training.seeds import numpy_generator

MAX_DAMAGED_IN_A_ROW = 100       # then it is not single files that are damaged; chosen here
HELDOUT_SEED = 0                 # of sketch selections: equal in all runs, whatever their seed


@dataclass(frozen=True, slots=True)
class Item:
    """One sample; t frames of H x W."""

    number: int
    key: str
    pictures_u8: NDArray[np.uint8]              # [t, H, W, 3] RGB
    fps: int
    caption: str
    has_image: bool
    sketches_u8: NDArray[np.uint8] | None       # [t, H, W]: 255 paper, 0 line; paper where not guided
    guided: NDArray[np.bool_] | None            # [t]
    window: str
    damages: tuple[Damage, ...]                 # clips it would have taken, were they not damaged
    flows: NDArray[np.float32] | None = None    # [2, 2, H, W] between the outer frames of a triplet

    def without_pictures(self) -> Item:
        return replace(self, pictures_u8=self.pictures_u8[:0], sketches_u8=None, flows=None)


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """The settings that make a clip into a sample. `sketch` is None where the task needs no drawings."""

    data: DataConfig
    condition_drop: float
    sketch: SketchConfig | None
    seed: int

    @property
    def members(self) -> tuple[str, ...]:
        """The files of a sample that are read at all."""
        needs_drawings = self.sketch is not None and self.data.sketch_source is SketchSource.SAMPLE
        return ("mp4", "json", "txt", "sketch.npz") if needs_drawings else ("mp4", "json", "txt")


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """`dataset[n]` is sample n, without end. A UserError is returned, not raised: a loader's process would garble it."""

    shards: ShardReader
    recipe: SampleRecipe
    order: Order
    buckets: Mapping[str, Bucket]
    keys: Mapping[str, Sequence[str]]           # of each bucket's clips

    def __getitem__(self, number: int) -> Item | UserError:
        bucket = self.buckets[self.order.bucket(number)]
        keys = self.keys[bucket.name]
        candidates = (keys[self.order.clip(number, attempt)[1]] for attempt in range(len(keys)))
        recipe = self.recipe
        dropped = draw_dropped(recipe.condition_drop, seed=recipe.seed, number=number)

        def make(sample: Sample) -> Item:
            clip = read_clip(sample)
            window = draw_window(clip, bucket.num_frames, recipe.data, seed=recipe.seed, number=number)
            item = _cut(clip, sample, window, bucket, recipe, number, seed=recipe.seed)
            return replace(item, caption="" if dropped.text else clip.caption, has_image=not dropped.image)

        return first_whole(self.shards, candidates, recipe.members, number, make)


@dataclass(frozen=True, slots=True)
class HeldoutClips:
    """`dataset[i]` is held-out clip i, always the same pictures; clips beyond `num_clips` only take the place of damaged ones."""

    shards: ShardReader
    recipe: SampleRecipe
    bucket: Bucket
    keys: Sequence[str]
    num_clips: int

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> Item | UserError:
        candidates = (self.keys[(index + attempt) % len(self.keys)] for attempt in range(len(self.keys)))

        def make(sample: Sample) -> Item:
            clip = read_clip(sample)
            window = fixed_window(clip, self.bucket.num_frames, self.recipe.data, index=index)
            return _cut(clip, sample, window, self.bucket, self.recipe, index, seed=HELDOUT_SEED)

        return first_whole(self.shards, candidates, self.recipe.members, index, make)


def first_whole(shards: ShardReader, candidates: Iterable[str], members: Sequence[str], number: int,
                make: Callable[[Sample], Item]) -> Item | UserError:
    """The item of the first candidate that can be decoded, with the damage of those before it.

    Only what follows from a sample's bytes counts as damage. A disk or network that fails stops the run instead: another rank
    might have read the sample, and then the ranks would train on different orders.
    """
    damages: list[Damage] = []
    for key in candidates:
        if len(damages) == MAX_DAMAGED_IN_A_ROW:
            break
        try:
            sample = shards.sample(key, only=members)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"sample {key} cannot be read", str(error) or type(error).__name__,
                             "Check the disk or network; the same command continues")
        try:
            return replace(make(sample), damages=tuple(damages))
        except (UserError, ValueError, KeyError, IndexError, TypeError, av.error.FFmpegError) as error:
            damages.append(Damage(key, _reason(error), number))
    first = f"; the first, {damages[0].key}, because {damages[0].reason}" if damages else ""
    return UserError(f"no clip can be decoded for sample {number}", f"{len(damages)} in a row are damaged{first}",
                     "Run the curation again, or copy the shards again")


def _cut(clip: Clip, sample: Sample, window: Window, bucket: Bucket, recipe: SampleRecipe, number: int, *, seed: int) -> Item:
    """The window's pictures and drawings at the bucket's size, with all conditions."""
    frames = np.array(window.frames)
    pictures = cover(clip.read(frames), width=bucket.width, height=bucket.height)
    guided = sketches = None
    if recipe.sketch is not None:
        guided = _guided_frames(len(frames), recipe.sketch, seed=seed, number=number)
        sketches = np.full(pictures.shape[:3], 255, np.uint8)
        if recipe.data.sketch_source is SketchSource.SAMPLE:
            drawn = read_sketches(sample.files["sketch.npz"], frames[guided])[..., None]
            sketches[guided] = cover(drawn, width=bucket.width, height=bucket.height)[..., 0]
        else:
            sketches[guided] = [draw_sketch(picture) for picture in pictures[guided]]
    if window.is_flipped:
        pictures = pictures[:, :, ::-1]
        sketches = None if sketches is None else sketches[:, :, ::-1]
    return Item(number, clip.key, pictures, window.fps, clip.caption, True, sketches, guided,
                _window_name(clip, window, bucket), ())


def _guided_frames(num_frames: int, sketch: SketchConfig, *, seed: int, number: int) -> NDArray[np.bool_]:
    """Which frames have a drawing, [t]; all for the ZeroGate baseline (ToonCrafter, ablation of the sketch encoder)."""
    if sketch.zero_gate:
        return np.ones(num_frames, np.bool_)
    return np.asarray(select_frames(num_frames, numpy_generator(seed, number, "sketch"),
                                    bisection_probability=sketch.bisection_share), np.bool_)


def _window_name(clip: Clip, window: Window, bucket: Bucket) -> str:
    """Equal where the pictures are equal: names the film's bytes, since an encode with other settings keeps the key."""
    film = hashlib.sha256(clip.mp4).hexdigest()[:16]
    mirrored = " mirrored" if window.is_flipped else ""
    return f"{clip.key}@{film} {bucket.width}x{bucket.height} {','.join(map(str, window.frames))}{mirrored}"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UserError | ValueError | IndexError) else f"{type(error).__name__}: {error}"
