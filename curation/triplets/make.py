"""Stage: the chosen triplets of a clip become pictures with their motion, region of interest and time of the middle drawing.

Each is an artifact of its own, keyed by the clip's bytes and the three frames: choosing others makes only those that are new.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from curation.stage import Resources
from curation.triplets.candidates import Candidate
from curation.triplets.clips import TripletClip, decode
from curation.triplets.gates import FailedClip
from curation.triplets.midtime import MidTime, moving_midtime
from curation.triplets.movement import MovementMeter
from curation.triplets.roi import Roi, motion_roi
from curation.triplets.statistics import MotionStatistics, measure_statistics
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.shards import ShardReader
from pipeline.store import Store

KIND, FILE, SCHEMA = "triplet", "triplet.json", 1
PICTURES = ("0.png", "1.png", "2.png")


@dataclass(frozen=True, slots=True)
class MakeJob:
    """The chosen triplets of one clip."""

    clip: TripletClip
    digest: str                        # of its encoded film
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class MadeTriplet:
    """One triplet, measured; its pictures lie in the store."""

    clip: TripletClip
    candidate: Candidate
    artifact_key: str
    width: int
    height: int
    motion: MotionStatistics
    roi: Roi | None                    # None: nothing is drawn moving, e.g. a pan
    midtime: MidTime | None            # the same


class MakeTriplets:
    """Stage: MakeJob -> MadeTriplet of each candidate, or one FailedClip."""

    name = "triplets"
    version = 1
    takes = MakeJob
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=0.5)

    def __init__(self, shards: str, store_root: str) -> None:
        self.shards, self.store_root = shards, store_root
        self._reader: ShardReader | None = None

    def setup(self) -> None:
        cv2.setNumThreads(1)
        self._reader = ShardReader(self.shards)

    def __call__(self, rows: list[MakeJob]) -> list[list[MadeTriplet | FailedClip]]:
        return [self._make(job) for job in rows]

    def failed(self, row: MakeJob, error: str) -> FailedClip:
        return FailedClip(row.clip.key, error)

    def _make(self, job: MakeJob) -> list[MadeTriplet | FailedClip]:
        store = Store(Path(self.store_root))
        keys = {one: content_key(version=self.version, clip=job.digest, frames=one.frames) for one in job.candidates}
        missing = [one for one in job.candidates if not store.has(KIND, keys[one])]
        if missing:
            assert self._reader is not None
            try:
                pictures = _pictures(self._reader.read(job.clip.key, "mp4"), {frame for one in missing for frame in one.frames})
            except (av.FFmpegError, ValueError) as error:
                return [FailedClip(job.clip.key, str(error))]
            meter = MovementMeter()
            for one in missing:
                with store.publish(KIND, keys[one]) as folder:
                    _write(folder, (pictures[one.frames[0]], pictures[one.frames[1]], pictures[one.frames[2]]), meter)
        return [_load(store, job.clip, one, keys[one]) for one in job.candidates]


def read_pictures(store: Store, made: MadeTriplet) -> list[bytes]:
    """The three PNG files."""
    folder = store.path(KIND, made.artifact_key)
    return [(folder / name).read_bytes() for name in PICTURES]


def _pictures(mp4: bytes, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    found: dict[int, NDArray[np.uint8]] = {}
    for frame, (_, rgb) in enumerate(decode(mp4)):
        if frame in wanted:
            found[frame] = rgb
        if len(found) == len(wanted):
            return found
    raise ValueError(f"the film ends before frame {max(wanted)}")


def _write(folder: Path, frames: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]], meter: MovementMeter) -> None:
    movement = meter.measure(frames)
    height, width = frames[0].shape[:2]
    roi, found = motion_roi(movement, width, height), moving_midtime(movement)
    midtime = None if found is None else MidTime(round(found.share, 4), round(found.spread, 4))
    for name, rgb in zip(PICTURES, frames, strict=True):
        (folder / name).write_bytes(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
    write_json(folder / FILE, {
        "schema": SCHEMA, "width": width, "height": height, "motion": measure_statistics(movement), "roi": roi,
        "midtime": midtime})


def _load(store: Store, clip: TripletClip, candidate: Candidate, key: str) -> MadeTriplet:
    record: dict[str, Any] = dict(read_json(store.path(KIND, key) / FILE, SCHEMA))
    roi = None if record["roi"] is None else Roi(**record["roi"])
    midtime = None if record["midtime"] is None else MidTime(**record["midtime"])
    motion = MotionStatistics(**record["motion"])
    return MadeTriplet(clip, candidate, key, record["width"], record["height"], motion, roi, midtime)
