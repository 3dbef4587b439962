"""Triplets of frames for AnimeInterp: read from shards, brought to one size, cropped, mirrored, turned round.

A sample holds 0.png, 1.png, 2.png and a json; flow.npz with the coarse flows (training/animeinterp/precompute.py) where wanted.
Augmentation follows arXiv 2104.02495, section 5, and the release's loader: frames of 960x540, random crops of 380x380, random
mirroring and reversal, and a crop that wanders from frame to frame, which adds motion. What the paper leaves open: frames of
another aspect ratio are stretched, as the release does; a wandering crop stays within the picture. All draws of sample n are
functions of (seed, n).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import UserError
from pipeline.shards import Sample, ShardReader
from pipeline.store import Store
from training.config import FlowSource, TrainJob, parse_size
from training.data.clip_dataset import Item, first_whole
from training.data.clip_table import Damage, DamageReport
from training.data.order import Order
from training.seeds import numpy_generator

if TYPE_CHECKING:
    from training.animeinterp.sgm import CachedMatching

FRAMES = ("0.png", "1.png", "2.png")
FLOWS = "flow.npz"
TRIPLET_SCHEMA = 1
BUCKET = "triplets"              # an order's name for all of them
UNKNOWN_FPS = 0

Pictures = NDArray[np.uint8]     # [3, H, W, 3] RGB
Flows = NDArray[np.float32]      # [2, 2, H, W]: first to last frame and back, each x and y in pixels


@dataclass(frozen=True, slots=True)
class View:
    """What of a triplet a sample sees: corners of the crop (x, y) in the first frame, and how far it wanders to the last."""

    corner: tuple[int, int]
    shift: tuple[int, int]
    size: tuple[int, int]            # (width, height)
    is_mirrored: bool
    is_upside_down: bool
    is_reversed: bool


@dataclass(frozen=True, slots=True)
class TripletRecipe:
    """The settings that make a triplet into a sample; sizes are (width, height)."""

    frame_size: tuple[int, int]
    crop_size: tuple[int, int]
    crop_shift: int
    mirror: float
    vertical_flip: float
    reverse: float
    flows: FlowSource
    seed: int
    matching: CachedMatching | None = None       # where flows are computed

    @property
    def members(self) -> tuple[str, ...]:
        return (*FRAMES, "json", *((FLOWS,) if self.flows is FlowSource.SHARDS else ()))


@dataclass(frozen=True, slots=True)
class TrainingTriplets:
    """`dataset[n]` is sample n, without end; a UserError is returned, not raised, as for clips."""

    shards: ShardReader
    recipe: TripletRecipe
    order: Order
    keys: Sequence[str]

    def __getitem__(self, number: int) -> Item | UserError:
        candidates = (self.keys[self.order.clip(number, attempt)[1]] for attempt in range(len(self.keys)))
        view = draw_view(self.recipe, number)
        return first_whole(self.shards, candidates, self.recipe.members, number,
                           lambda sample: _make(sample, self.recipe, view, number))


@dataclass(frozen=True, slots=True)
class HeldoutTriplets:
    """`dataset[i]` is held-out triplet i: whole frames, nothing drawn."""

    shards: ShardReader
    recipe: TripletRecipe
    keys: Sequence[str]
    num_triplets: int

    def __len__(self) -> int:
        return self.num_triplets

    def __getitem__(self, index: int) -> Item | UserError:
        candidates = (self.keys[(index + attempt) % len(self.keys)] for attempt in range(len(self.keys)))
        whole = View((0, 0), (0, 0), self.recipe.frame_size, False, False, False)
        return first_whole(self.shards, candidates, self.recipe.members, index,
                           lambda sample: _make(sample, self.recipe, whole, index))


def open_training_triplets(job: TrainJob, report: DamageReport, *, is_logged: bool = True) -> TrainingTriplets:
    """The triplets of the train shards as samples by number; UserError where there are none that can be used."""
    shards, keys, recipe = _open(job, "train", report, is_logged=is_logged)
    return TrainingTriplets(shards, recipe, Order({BUCKET: len(keys)}, job.task.global_batch, job.seed), keys)


def open_heldout_triplets(job: TrainJob, report: DamageReport, *, is_logged: bool = True) -> HeldoutTriplets:
    """The first data.num_heldout triplets of the eval shards in an order that follows from their keys alone."""
    shards, keys, recipe = _open(job, "eval", report, is_logged=is_logged)
    keys = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())
    return HeldoutTriplets(shards, recipe, keys, min(len(keys), job.data.num_heldout))


def draw_view(recipe: TripletRecipe, number: int) -> View:
    """What sample `number` sees: a function of the recipe's seed and the number.

    The crop wanders by an even number of pixels, half of it to the middle frame; it starts where there is room for that.
    """
    chance = numpy_generator(recipe.seed, number, "triplet")
    corner, shift = [], []
    for whole, cut in zip(recipe.frame_size, recipe.crop_size, strict=True):
        most = min(recipe.crop_shift, whole - cut) // 2
        wanders = 2 * int(chance.integers(-most, most + 1))
        shift.append(wanders)
        corner.append(int(chance.integers(max(0, -wanders), whole - cut - max(0, wanders) + 1)))
    mirrored, upside_down, backwards = (bool(chance.random() < share)
                                        for share in (recipe.mirror, recipe.vertical_flip, recipe.reverse))
    return View((corner[0], corner[1]), (shift[0], shift[1]), recipe.crop_size, mirrored, upside_down, backwards)


def seen(pictures: Pictures, flows: Flows | None, view: View) -> tuple[Pictures, Flows | None]:
    """Returns the crop of frames [3, H, W, 3] and flows [2, 2, H, W] that `view` names, flows still in step with the frames."""
    (x, y), (across, down), (width, height) = view.corner, view.shift, view.size
    pictures = np.stack([
        picture[y + down * index // 2:, x + across * index // 2:][:height, :width] for index, picture in enumerate(pictures)])
    if flows is not None:
        shift = np.array([across, down], np.float32)[:, None, None]
        # A pixel's place in the last crop is counted from another corner than in the first.
        flows = np.stack([flows[0][:, y:y + height, x:x + width] - shift,
                          flows[1][:, y + down:y + down + height, x + across:x + across + width] + shift])
    for is_flipped, axis, component in ((view.is_mirrored, -1, 0), (view.is_upside_down, -2, 1)):
        if is_flipped:
            pictures = np.flip(pictures, axis - 1)           # colours lie last there
            if flows is not None:
                flows = np.flip(flows, axis).copy()
                flows[:, component] *= -1
    if view.is_reversed:
        pictures = pictures[::-1]
        flows = None if flows is None else flows[::-1]
    return np.ascontiguousarray(pictures), None if flows is None else np.ascontiguousarray(flows)


def read_frames(files: Mapping[str, bytes], size: tuple[int, int]) -> Pictures:
    """Returns the three frames at `size` (width, height), by Lanczos as the release; ValueError where one is damaged."""
    found = []
    for name in FRAMES:
        try:
            with Image.open(io.BytesIO(files[name])) as opened:
                picture = opened.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{name} cannot be read ({type(error).__name__})") from error
        found.append(np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS), np.uint8))
    return np.stack(found)


def read_flows(data: bytes, size: tuple[int, int]) -> Flows:
    """Returns stored flows at `size`, by nearest neighbours with their lengths in proportion; ValueError for damaged ones."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            flows = np.stack([stored["flow01"], stored["flow10"]]).astype(np.float32)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{FLOWS} cannot be read ({type(error).__name__})") from error
    if flows.ndim != 4 or flows.shape[1] != 2:
        raise ValueError(f"{FLOWS} holds arrays of {flows.shape[1:]}, not of 2 x height x width")
    return resized_flows(flows, size)


def resized_flows(flows: Flows, size: tuple[int, int]) -> Flows:
    """Brings flows [k, 2, h, w] to (width, height)."""
    height, width = flows.shape[-2:]
    if (width, height) == size:
        return flows
    planes = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in flows.reshape(-1, height, width)])
    ratio = np.array([size[0] / width, size[1] / height], np.float32)[:, None, None]
    return planes.reshape(len(flows), 2, size[1], size[0]) * ratio


def _make(sample: Sample, recipe: TripletRecipe, view: View, number: int) -> Item:
    files = sample.files
    schema = json.loads(files["json"]).get("schema")
    if schema != TRIPLET_SCHEMA:
        raise ValueError(f"its schema is {schema}; this version reads {TRIPLET_SCHEMA}")
    pictures = read_frames(files, recipe.frame_size)
    flows = None
    if recipe.matching is not None:
        found = recipe.matching.flows(*(np.ascontiguousarray(picture[..., ::-1]) for picture in pictures[[0, 2]]))
        flows = np.stack([found.flow01, found.flow10])
    elif recipe.flows is FlowSource.SHARDS:
        flows = read_flows(files[FLOWS], recipe.frame_size)
    pictures, flows = seen(pictures, flows, view)
    return Item(number, sample.key, pictures, UNKNOWN_FPS, "", True, None, None, f"{sample.key} {view}", (), flows)


def _open(job: TrainJob, split: str, report: DamageReport, *, is_logged: bool) -> tuple[ShardReader, list[str], TripletRecipe]:
    if job.shards is None:
        raise UserError("shards is not given", "a training needs the folder or address of triplet shards",
                        "Give shards=FOLDER, what make triplets wrote")
    recipe = _recipe(job)
    shards = ShardReader(job.shards, split)
    triplets = [key for key in shards.keys if {*FRAMES, "json"} <= set(shards.extensions(key))]
    if not triplets:
        raise UserError(f"{job.shards} has no triplets in its {split} shards", f"none of {len(shards)} samples has three frames",
                        "Make triplets of your films: make triplets ARCHIVE=... OUT=...")
    keys = [key for key in triplets if set(recipe.members) <= set(shards.extensions(key))]
    if not keys:
        raise UserError(f"the {split} triplets of {job.shards} have no {FLOWS}", "data.triplets.flows=shards reads them there",
                        "Add them with python -m training.animeinterp.precompute, or set data.triplets.flows=computed or none")
    report.add([Damage(key, "members are absent") for key in shards.keys if key not in set(keys)], is_logged=is_logged)
    return shards, keys, recipe


def _recipe(job: TrainJob) -> TripletRecipe:
    triplets = job.data.triplets
    matching = None
    if triplets.flows is FlowSource.COMPUTED:
        from training.animeinterp.features import load_vgg19, stand_in_vgg19
        from training.animeinterp.sgm import CachedMatching

        network = stand_in_vgg19() if triplets.vgg19 is None else load_vgg19(triplets.vgg19)
        matching = CachedMatching(Store(Path(job.data.cache.folder or Path(job.out) / "cache")), network)
    return TripletRecipe(
        parse_size(triplets.frame_size, "data.triplets.frame_size"), parse_size(job.data.size, "data.size"), triplets.crop_shift,
        job.data.flip, triplets.vertical_flip, triplets.reverse, triplets.flows, job.seed, matching)
