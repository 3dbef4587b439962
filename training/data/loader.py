"""What a job trains on: the micro-batches of a rank, and the held-out clips of all ranks.

training_batches(job, rank, world, first_step) goes on for ever from any optimiser step; what it yields is a function of the
job's seed and the sample numbers alone (order.py), so a restart asks for the step it was at and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch

from pipeline.errors import UserError
from pipeline.shards import ShardReader
from training.config import TaskName, TrainJob
from training.data.batch import Batch
from training.data.buckets import fits, parse_buckets, sort_clips
from training.data.clip_dataset import HeldoutClips, Item, SampleRecipe, TrainingClips
from training.data.clip_table import ClipTable, Damage, DamageReport, read_table
from training.data.collate import collect
from training.data.order import Order, rank_numbers
from training.data.stream import BatchStream, Samples
from training.data.triplets import open_heldout_triplets, open_training_triplets

_log = logging.getLogger(__name__)


class HeldoutSamples(Protocol):
    """A fixed number of samples by index, the same in every round."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item | UserError: ...


class HeldoutBatches:
    """Batches of the held-out clips, decoded anew in each round; equally many on each rank.

    Clips go round the ranks as in training. Where they do not fill the last batches, the last clip stands in with weight 0:
    ranks must make the same number of collective calls.
    """

    def __init__(self, clips: HeldoutSamples, *, rank: int, world: int, micro_batch: int, report: DamageReport) -> None:
        self.report = report
        self._clips, self._rank, self._world, self._micro_batch = clips, rank, world, micro_batch

    def __len__(self) -> int:
        return -(-len(self._clips) // (self._world * self._micro_batch))

    def __iter__(self) -> Iterator[Batch]:
        total = len(self) * self._world * self._micro_batch
        for numbers in rank_numbers(0, global_batch=total, rank=self._rank, world=self._world, micro_batch=self._micro_batch):
            found = collect([self._clips[min(number, len(self._clips) - 1)] for number in numbers])
            if isinstance(found, UserError):
                raise found
            self.report.add(found.damages)
            yield found.batch(torch.tensor([float(number < len(self._clips)) for number in numbers]))


def training_batches(job: TrainJob, rank: int, world: int, first_step: int) -> BatchStream:
    """The micro-batches of `rank` from optimiser step `first_step` on, in order.

    UserError where the shards hold no clip that can be used, now, or where too many in a row are damaged, later.
    """
    report = DamageReport()
    clips: Samples
    if job.task.name is TaskName.ANIMEINTERP:
        clips = open_training_triplets(job, report, is_logged=rank == 0)
    else:
        clips = open_training_clips(job, report, is_logged=rank == 0)
    return BatchStream(clips, rank=rank, world=world, micro_batch=job.engine.micro_batch, first_step=first_step,
                       num_workers=job.data.num_workers, report=report)


def heldout_batches(job: TrainJob, rank: int, world: int) -> HeldoutBatches:
    """The first data.num_heldout clips of the eval shards, in an order that follows from their keys alone.

    They are the same in runs of any seed, so held-out losses compare between runs. UserError where there are none.
    """
    report = DamageReport()
    if job.task.name is TaskName.ANIMEINTERP:
        triplets = open_heldout_triplets(job, report, is_logged=rank == 0)
        return HeldoutBatches(triplets, rank=rank, world=world, micro_batch=job.engine.micro_batch, report=report)
    shards, table = _read(job, "eval", report, is_logged=rank == 0)
    if not table.clips:
        raise UserError(f"{job.shards} has no held-out clips", "no clip of its eval shards can be used",
                        "Curate more films, or raise curation.split.eval_share and run the curation again")
    bucket = parse_buckets(job.data)[0]
    keys = sorted((clip.key for clip in table.clips if fits(clip, bucket, job.data)),
                  key=lambda key: hashlib.sha256(key.encode()).digest())
    if not keys:
        raise _all_too_short(job, len(table.clips), "eval")
    if len(keys) < job.data.num_heldout and rank == 0:
        _log.warning("event=few_heldout_clips wanted=%d found=%d; held-out losses are measured on these",
                     job.data.num_heldout, len(keys))
    clips = HeldoutClips(shards, _recipe(job), bucket, keys, min(len(keys), job.data.num_heldout))
    return HeldoutBatches(clips, rank=rank, world=world, micro_batch=job.engine.micro_batch, report=report)


def open_training_clips(job: TrainJob, report: DamageReport, *, is_logged: bool = True) -> TrainingClips:
    """The train shards as samples by number; says once how many clips of which bucket there are and which are left out.

    All ranks find the same, so one of them logs it.
    """
    shards, table = _read(job, "train", report, is_logged=is_logged)
    if not table.clips:
        raise UserError(f"{job.shards} has no clips to train on", f"{len(table.damages)} are damaged, none is whole",
                        "Run the curation again, or give other shards")
    found = sort_clips(table.clips, job.data, min_clips=job.task.global_batch)
    if not found.buckets:
        raise _all_too_short(job, len(table.clips), "train")
    if is_logged:
        for name, keys in found.keys.items():
            _log.info("event=bucket name=%s clips=%d", name, len(keys))
        if found.too_short:
            _log.warning("event=clips_left_out reason=too_short clips=%d of=%d first=%s frames=%d drawings=%s stride_min=%d",
                         len(found.too_short), len(table.clips), found.too_short[0], job.data.num_frames,
                         job.data.drawings, job.data.stride_min)
    order = Order({name: len(keys) for name, keys in found.keys.items()}, job.task.global_batch, job.seed)
    return TrainingClips(shards, _recipe(job), order, {bucket.name: bucket for bucket in found.buckets}, found.keys)


def _read(job: TrainJob, split: str, report: DamageReport, *, is_logged: bool) -> tuple[ShardReader, ClipTable]:
    """The shards of a split and the facts of their clips, without those that lack what the task needs."""
    if job.shards is None:
        raise UserError("shards is not given", "a training needs the folder or address of curated shards",
                        "Give shards=FOLDER, the out folder of a curation")
    shards = ShardReader(job.shards, split)
    table = read_table(shards, Path(job.data.cache.folder or Path(job.out) / "cache"))
    report.add(table.damages, is_logged=is_logged)
    if "sketch.npz" not in _recipe(job).members:
        return shards, table
    drawn = tuple(clip for clip in table.clips if clip.has_sketches)
    if table.clips and not drawn:
        raise UserError(f"the {split} shards of {job.shards} hold no sketches", "data.sketch_source=sample reads them from there",
                        "Set data.sketch_source=opencv, or curate again with sketches")
    report.add([Damage(clip.key, "it has no sketch.npz") for clip in table.clips if not clip.has_sketches],
               is_logged=is_logged)
    return shards, ClipTable(drawn, table.damages)


def _recipe(job: TrainJob) -> SampleRecipe:
    sketch = job.task.sketch if job.task.name is TaskName.SKETCH else None
    return SampleRecipe(job.data, job.task.condition_drop, sketch, job.seed)


def _all_too_short(job: TrainJob, num_clips: int, split: str) -> UserError:
    what = "distinct drawings" if job.data.drawings else "frames"
    return UserError(f"the {split} shards of {job.shards} have no clip that is long enough",
                     f"none of {num_clips} has {job.data.num_frames} {what} at a stride of {job.data.stride_min}",
                     "Lower data.num_frames or data.stride_min, set data.drawings=false, or curate longer clips")
