"""Gate of triplets: no two of the three frames may be almost the same drawing, nor so different that the scene changed.

AnimeInterp (arXiv 2104.02495), section 3: drop where any two frames have SSIM above 0.95, and where SSIM is below 0.75; for which
pair the second holds is not said, here it is any pair, as for the first. Measured once per clip for all pairs that any candidate
could have, then decided again in every run.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2

from curation.config import parse_size
from curation.ledger import Verdict
from curation.stage import Resources
from curation.triplets.candidates import Candidate, places
from curation.triplets.clips import TripletClip, decode
from curation.triplets.config import CandidatesConfig, SsimLimits
from curation.triplets.ssim import SsimPicture, grey_at, prepare, ssim
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.shards import ShardReader
from pipeline.store import Store

TOO_ALIKE, TOO_DIFFERENT = "too_alike", "too_different"
PAIRS, PAIR_NAMES = ((0, 1), (1, 2), (0, 2)), ("1 and 2", "2 and 3", "1 and 3")
KIND, FILE, SCHEMA = "pairs", "pairs.json", 1


@dataclass(frozen=True, slots=True)
class ClipPairs:
    """How alike frames of a clip are; heavy data is not here, the clip stays in its shard."""

    clip: TripletClip
    digest: str                                  # sha256 of the encoded film
    times_s: tuple[float, ...]                   # of all frames, from the first
    ssim: dict[tuple[int, int], float]           # by frames within the clip, the earlier one first

    def of(self, candidate: Candidate) -> tuple[float, float, float]:
        """Of frames 1 and 2, 2 and 3, 1 and 3."""
        one, two, three = (self.ssim[candidate.frames[i], candidate.frames[j]] for i, j in PAIRS)
        return one, two, three


@dataclass(frozen=True, slots=True)
class FailedClip:
    key: str
    error: str


class MeasurePairs:
    """Stage: TripletClip -> ClipPairs, or FailedClip where its film cannot be decoded."""

    name = "pairs"
    version = 1
    takes = TripletClip
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=0.5)

    def __init__(self, shards: str, store_root: str, candidates: CandidatesConfig, size: str) -> None:
        self.shards, self.store_root, self.candidates, self.size = shards, store_root, candidates, size
        self._reader: ShardReader | None = None

    def setup(self) -> None:
        cv2.setNumThreads(1)
        self._reader = ShardReader(self.shards)

    def __call__(self, rows: list[TripletClip]) -> list[list[ClipPairs | FailedClip]]:
        return [[self._measured(clip)] for clip in rows]

    def failed(self, row: TripletClip, error: str) -> FailedClip:
        return FailedClip(row.key, error)

    def _measured(self, clip: TripletClip) -> ClipPairs | FailedClip:
        assert self._reader is not None
        mp4 = self._reader.read(clip.key, "mp4")
        digest = hashlib.sha256(mp4).hexdigest()
        among = places(clip.holds, self.candidates.unit)
        distances = sorted({factor * spacing for spacing in self.candidates.spacings for factor in (1, 2)})
        store = Store(Path(self.store_root))
        key = content_key(version=self.version, clip=digest, num_frames=sum(clip.holds), among=among, distances=distances,
                          size=self.size)
        if not store.has(KIND, key):
            try:
                found = measure_pairs(mp4, sum(clip.holds), among, distances, parse_size(self.size, "ssim.size"))
            except (av.FFmpegError, ValueError) as error:
                return FailedClip(clip.key, str(error))
            with store.publish(KIND, key) as folder:
                write_json(folder / FILE, {"schema": SCHEMA, **found})
        record: dict[str, Any] = dict(read_json(store.path(KIND, key) / FILE, SCHEMA))
        return ClipPairs(clip, digest, tuple(record["times_s"]), {(one, two): value for one, two, value in record["ssim"]})


def measure_pairs(mp4: bytes, num_frames: int, among: Sequence[int], distances: Sequence[int], size: tuple[int, int]
                  ) -> dict[str, Any]:
    """`times_s` of all frames and `ssim` as [frame, frame, value] of those of `among` that lie `distances` apart in it.

    One pass over the film; as many pictures are kept as the largest distance needs. ValueError for another number of frames.
    """
    wanted = {frame: index for index, frame in enumerate(among)}
    kept: deque[SsimPicture] = deque(maxlen=max(distances))
    times_s: list[float] = []
    values: list[tuple[int, int, float]] = []
    for frame, (time_s, rgb) in enumerate(decode(mp4)):
        times_s.append(round(time_s, 6))
        if frame not in wanted:
            continue
        index, picture = wanted[frame], prepare(grey_at(rgb, size))
        values += [(among[index - distance], frame, round(ssim(kept[-distance], picture), 6))
                   for distance in distances if distance <= index]
        kept.append(picture)
    if len(times_s) != num_frames:
        raise ValueError(f"the film has {len(times_s)} frames, its record {num_frames}")
    return {"times_s": times_s, "ssim": values}


def decide(values: Sequence[float], limits: SsimLimits) -> Verdict:
    """Keeps three frames of which every two are at least `limits.min` and at most `limits.max` alike."""
    by_pair = dict(zip(PAIR_NAMES, values, strict=True))
    alike = max(PAIR_NAMES, key=by_pair.__getitem__)
    if by_pair[alike] > limits.max:
        return Verdict.drop(TOO_ALIKE, f"SSIM of frames {alike} is {by_pair[alike]:.3f} > {limits.max:.3f}")
    other = min(PAIR_NAMES, key=by_pair.__getitem__)
    if by_pair[other] < limits.min:
        return Verdict.drop(TOO_DIFFERENT, f"SSIM of frames {other} is {by_pair[other]:.3f} < {limits.min:.3f}")
    return Verdict.kept("ssim")
